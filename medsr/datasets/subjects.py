"""Find the subject of an image and the split of a subject by the rules of a manifest.

A split is a property of a subject, never of a file. If two scans, two sides or a hundred slices of one person were in
different splits, a network would be tested on data that it was trained on.
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
    """A rule that maps the entities of a file name to a subject.

    Attributes:
        rule: ``listed`` (the manifest names the subject of every file), ``entity`` (an entity is the
            subject), ``consecutive`` (``size`` consecutive numbers are one subject, the first of all is
            ``first``) or ``table`` (a mapping from the entity's value to the subject).
        description: The rule in words.
        entity: The named group of the layout's pattern that the rule reads.
        template: The template of the subject's name with ``{value}``, an int for ``consecutive``, else a string.
        size: The number of consecutive numbers per subject.
        first: The first number.
        table: A mapping from the value of the entity to the subject.
    """

    rule: str
    description: str
    entity: str = "subject"
    template: str = "{value}"
    size: int = 1
    first: int = 1
    table: Mapping[str, str] = field(default_factory=dict)

    def subject(self, entities: Mapping[str, str]) -> str | None:
        """Return the subject of a file, None if the rule does not define it.

        Args:
            entities: The values of the named groups of the layout's pattern in the file's path.

        Raises:
            InputError: If the rule is ``consecutive`` and the entity is not a number in its range.
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
    """A rule that states the split of a subject.

    Attributes:
        rule: ``listed`` (the subjects are named), ``modulus`` (the number at the end of the subject's name modulo
            ``modulus`` is looked up in the lists), ``hash`` (a seeded hash of the name is compared with fractions, so
            the split does not change if subjects join or leave) or ``ranked`` (the subjects are sorted by that hash and
            counted off, which gives exact numbers, but needs the complete dataset).
        description: The rule in words.
        train: The subjects (``listed``), residues (``modulus``), fraction (``hash``) or number (``ranked``).
        val: See ``train``.
        test: See ``train``.
        modulus: The modulus for ``modulus``.
        seed: The seed for ``hash`` and ``ranked``.
        validate_on_test: The subjects of ``test`` that a publication also validated on (``listed``). They are in both
            sections of a datalist, which is a leak: a network that is chosen by them is also tested on them.
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
        """Return the split of every subject: ``train``, ``val``, ``test``, or None if it is in no split.

        Args:
            subjects: The names of the subjects in the folder; repetitions are ignored.

        Raises:
            InputError: If the rule is ``modulus`` and the name of a subject does not end in a number.
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
        """Return the split of each subject for a ``listed`` rule, an empty dictionary for other rules."""
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
        """Return a number in [0, 1) that depends only on the seed and the name, and is the same on every machine."""
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
        InputError: If a subject or residue is in two splits, the fractions exceed one, or `validate_on_test` names a
            subject that is not in the test split.
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
        raise InputError(f"expected split fractions that sum to at most 1, got {sum(entries):g}; reduce one")
    if rule.rule in ("listed", "modulus"):
        twice = sorted({str(entry) for entry in entries if entries.count(entry) > 1})
        if twice:
            raise InputError(
                f"expected each subject or residue in one split, found in two: {', '.join(twice)}; remove one entry"
            )
    return rule
