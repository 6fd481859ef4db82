"""Who is in an image, and in which split that person is: the rules a manifest can state.

A split is a property of a subject, never of a file. Two scans, two sides or a hundred slices of one person
that lie in different splits let a network be tested on what it has been trained on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from medsr.errors import InputError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SubjectRule:
    """How the entities of a file name map to a subject.

    Attributes:
        rule: ``listed`` (the manifest names the subject of every file), ``entity`` (an entity is the
            subject), ``consecutive`` (``size`` consecutive numbers are one subject, the first of all is
            ``first``) or ``table`` (a mapping from the entity's value to the subject).
        description: The rule in words.
        entity: Named group of the layout's pattern that the rule reads.
        template: The subject's name from ``{value}``: an int under ``consecutive``, else a string.
        size: The numbers per subject.
        first: The first number.
        table: The value of the entity to subject.
    """

    rule: str
    description: str
    entity: str = "subject"
    template: str = "{value}"
    size: int = 1
    first: int = 1
    table: Mapping[str, str] = field(default_factory=dict)

    def subject(self, entities: Mapping[str, str]) -> str | None:
        """Return the subject of a file, None where the rule does not know it.

        Args:
            entities: Named groups of the layout's pattern in the file's path.

        Raises:
            InputError: A ``consecutive`` rule and an entity that is not a number in its range.
        """
        value = entities.get(self.entity)
        if value is None:
            return None
        if self.rule == "table":
            return self.table.get(value)
        if self.rule != "consecutive":
            return self.template.format(value=value)
        if not re.fullmatch("[0-9]+", value) or int(value) < self.first:
            raise InputError(
                f"expected a number from {self.first} on as {self.entity!r} in a file name, got {value!r}; "
                "rename the file or correct the manifest's pattern"
            )
        return self.template.format(value=(int(value) - self.first) // self.size + 1)


@dataclass(frozen=True)
class SplitRule:
    """In which split a subject is.

    Attributes:
        rule: ``listed`` (subjects by name), ``modulus`` (the number at the end of the subject's name modulo
            ``modulus``, looked up in the lists), ``hash`` (a seeded hash of the name against fractions:
            does not change when subjects join or leave) or ``ranked`` (subjects in the order of that hash,
            counted off: exact numbers, but only defined for the complete dataset).
        description: The rule in words.
        train: Subjects (``listed``), residues (``modulus``), one fraction (``hash``), one count (``ranked``).
        val: See ``train``.
        test: See ``train``.
        modulus: The modulus for ``modulus``.
        seed: The seed for ``hash`` and ``ranked``.
        validate_on_test: Subjects of ``test`` that a publication also validated on (``listed``). They stand in both
            sections of a datalist, which leaks: a network chosen by them is tested on them.
    """

    rule: str
    description: str
    train: tuple[Any, ...] = ()
    val: tuple[Any, ...] = ()
    test: tuple[Any, ...] = ()
    modulus: int = 1
    seed: str = ""
    validate_on_test: tuple[str, ...] = ()

    def assign(self, subjects: Iterable[str]) -> dict[str, str | None]:
        """Return the split of every subject: ``train``, ``val``, ``test``, or None for one in none of them.

        Args:
            subjects: The names of the subjects in the folder; repetitions do not matter.

        Raises:
            InputError: A ``modulus`` rule and a subject without a number at the end of its name.
        """
        names = sorted(set(subjects))
        if self.rule == "ranked":
            return self._ranked(names)
        return {name: self._split(name) for name in names}

    def incomplete(self, subjects: Iterable[str]) -> str | None:
        """Return why the rule cannot split these subjects, or None if it can."""
        if self.rule != "ranked":
            return None
        found, needed = len(set(subjects)), sum((*self.train, *self.val, *self.test))
        if found == needed:
            return None
        return f"the split counts off {needed} subjects and is undefined for the {found} found"

    def listed(self) -> dict[str, str]:
        """Subject to split for a ``listed`` rule, empty for the others."""
        if self.rule != "listed":
            return {}
        return {subject: split for split in SPLITS for subject in getattr(self, split)}

    def _split(self, subject: str) -> str | None:
        if self.rule == "hash":
            return self._below(self._position(subject), 0.0)
        key: Any = subject
        if self.rule == "modulus":
            digits = re.search("[0-9]+$", subject)
            if digits is None:
                raise InputError(
                    f"the split rule needs a subject whose name ends in a number, got {subject!r}; correct the manifest"
                )
            key = int(digits.group()) % self.modulus
        return next((split for split in SPLITS if key in getattr(self, split)), None)

    def _ranked(self, names: list[str]) -> dict[str, str | None]:
        if self.incomplete(names):
            return dict.fromkeys(names)
        order = sorted(names, key=lambda name: (self._position(name), name))
        return {name: self._below(rank, 0) for rank, name in enumerate(order)}

    def _below(self, position: float, start: float) -> str | None:
        for split in SPLITS:
            start += sum(getattr(self, split))
            if position < start:
                return split
        return None

    def _position(self, subject: str) -> float:
        """Return a number in [0, 1) that depends on the seed and the name alone, on every machine."""
        digest = hashlib.sha256(f"{self.seed}:{subject}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48  # 48 bits are exact in a float


def subject_rule(section: Mapping[str, Any]) -> SubjectRule:
    """Return a subject rule from the manifest's ``subject`` section.

    Raises:
        InputError: If a key of the table is not a string (YAML reads an unquoted 01 as the number 1).
    """
    rule = SubjectRule(**section)
    bare = [key for key in rule.table if not isinstance(key, str)]
    if bare:
        raise InputError(f"expected quoted keys in the table of subjects, got the number {bare[0]}; quote it")
    return rule


def split_rule(section: Mapping[str, Any]) -> SplitRule:
    """Return a split rule from the manifest's ``split`` section.

    Raises:
        InputError: A subject or residue stands in two splits, or the fractions exceed one.
    """
    values: dict[str, Any] = dict(section)
    for split in SPLITS:
        value = values.get(split, ())
        values[split] = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    values["validate_on_test"] = tuple(values.get("validate_on_test", ()))
    rule = SplitRule(**values)
    untested = sorted(set(rule.validate_on_test) - set(rule.test))
    if untested:
        raise InputError(f"expected subjects of the test split in validate_on_test, got also {', '.join(untested)}")
    entries = [*rule.train, *rule.val, *rule.test]
    if rule.rule == "hash" and sum(entries) > 1 + 1e-9:
        raise InputError(f"expected split fractions that sum to at most 1, got {sum(entries):g}")
    if rule.rule in ("listed", "modulus"):
        twice = sorted({str(entry) for entry in entries if entries.count(entry) > 1})
        if twice:
            raise InputError(f"expected everyone in one split, found in two: {', '.join(twice)}")
    return rule
