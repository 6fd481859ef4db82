"""Who is in an image, and in which split that person is: the rules a manifest can state.

A split is a property of a subject, never of a file. Two scans, two sides or a hundred slices of one person that
lie in different splits let a network be tested on what it has been trained on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medsr.errors import InputError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SubjectRule:
    """How the entities of a file name map to a subject.

    Attributes:
        rule: ``listed`` (the manifest names the subject of every file), ``entity`` (an entity is the subject),
            ``consecutive`` (``size`` consecutive numbers are one subject, the first of all is ``first``) or
            ``table`` (a mapping from the entity's value to the subject).
        entity: named group of the layout's pattern that the rule reads.
        template: subject's name from ``{value}``, an int under ``consecutive``, else a string.
        size: numbers per subject.
        first: the first number.
        table: entity value to subject.
        description: the rule in words.
    """

    rule: str
    entity: str = "subject"
    template: str = "{value}"
    size: int = 1
    first: int = 1
    table: Mapping[str, str] = field(default_factory=dict)
    description: str = ""

    def subject(self, entities: Mapping[str, str]) -> str | None:
        """The subject of a file, None where the rule does not know it.

        Args:
            entities: named groups of the layout's pattern in the file's path.

        Raises:
            InputError: the rule needs an entity or a number that the file name does not have.
        """
        value = entities.get(self.entity)
        if value is None:
            return None
        if self.rule == "table":
            return self.table.get(value)
        if self.rule == "consecutive":
            if not value.isdecimal():
                raise InputError(f"expected a number as entity {self.entity!r} of a file name, got {value!r}")
            return self.template.format(value=(int(value) - self.first) // self.size + 1)
        return self.template.format(value=value)


@dataclass(frozen=True)
class SplitRule:
    """In which split a subject is.

    Attributes:
        rule: ``listed`` (subjects by name), ``modulus`` (the subject's number modulo ``modulus``, looked up
            in the lists) or ``hash`` (a seeded hash of the subject's name against cumulative fractions).
        train: subjects, residues or the one fraction of the train split; ``val`` and ``test`` likewise.
        val: see ``train``.
        test: see ``train``.
        modulus: for ``modulus``.
        seed: for ``hash``.
        unused: subjects that are known and deliberately in no split.
        description: the rule in words.
    """

    rule: str
    train: tuple[Any, ...] = ()
    val: tuple[Any, ...] = ()
    test: tuple[Any, ...] = ()
    modulus: int = 1
    seed: str = ""
    unused: tuple[str, ...] = ()
    description: str = ""

    def split(self, subject: str) -> str | None:
        """``train``, ``val``, ``test``, or None for a subject in none of them.

        Args:
            subject: name of the subject.

        Raises:
            InputError: a ``modulus`` rule and a subject without a number in its name.
        """
        if self.rule == "hash":
            return self._hashed(subject)
        key: Any = subject
        if self.rule == "modulus":
            digits = re.search(r"(\d+)$", subject)
            if digits is None:
                raise InputError(f"the split rule needs a subject that ends in a number, got {subject!r}")
            key = int(digits.group(1)) % self.modulus
        return next((name for name in SPLITS if key in getattr(self, name)), None)

    def _hashed(self, subject: str) -> str | None:
        digest = hashlib.sha256(f"{self.seed}:{subject}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        upper = 0.0
        for name in SPLITS:
            upper += sum(getattr(self, name))
            if position < upper:
                return name
        return None


def subject_rule(document: Mapping[str, Any]) -> SubjectRule:
    """A subject rule from the manifest's ``subject`` section."""
    return SubjectRule(**document)


def split_rule(document: Mapping[str, Any]) -> SplitRule:
    """A split rule from the manifest's ``split`` section.

    Raises:
        InputError: a subject or residue stands in two splits, or fractions exceed one.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}
    for name in SPLITS:
        if isinstance(values.get(name), (int, float)):
            values[name] = (values[name],)
    rule = SplitRule(**values)
    if rule.rule == "hash":
        if sum((*rule.train, *rule.val, *rule.test)) > 1 + 1e-9:
            raise InputError("expected split fractions that sum to at most 1")
        return rule
    listed = [*rule.train, *rule.val, *rule.test, *rule.unused]
    twice = sorted({str(key) for key in listed if listed.count(key) > 1})
    if twice:
        raise InputError(f"expected every subject in one split, found in two: {', '.join(twice)}")
    return rule
