"""What a message's field may hold: a check beside each field's type, read from the dataclass itself."""

from __future__ import annotations

import re
import reprlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, TypeVar

from streamcodec.errors import LocalProtocolError

__all__ = [
    "Check",
    "Checked",
    "between",
    "flag",
    "from_map",
    "matching",
    "number",
    "numbers",
    "secret",
    "several",
    "shown",
    "text",
    "whole",
    "word",
]

T = TypeVar("T", bound="Checked")


@dataclass(frozen=True)
class Check:
    """What one field accepts; `expected` says it in words. No error tells the value of a `secret`."""

    expected: str
    accepts: Callable[[Any], bool]
    secret: bool = False


def whole(low: int, high: int) -> Check:
    """An integer from `low` to `high`."""
    return Check(f"an integer from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def number(most: float) -> Check:
    """An integer or a float above 0."""
    return Check(f"a number above 0 and at most {most:g}", lambda value: type(value) in (int, float) and 0 < value <= most)


def numbers(most: float) -> Check:
    """A tuple of integers or floats above 0; an array on the wire."""
    one = number(most)
    return Check(
        f"an array of numbers above 0 and at most {most:g}", lambda value: isinstance(value, tuple) and all(map(one.accepts, value))
    )


def several(one: Check, most: int) -> Check:
    """A tuple of at most `most` values that `one` accepts; an array on the wire."""
    return Check(
        f"an array of at most {most}, each {one.expected}",
        lambda value: isinstance(value, tuple) and len(value) <= most and all(map(one.accepts, value)),
    )


def between(low: float, high: float) -> Check:
    """An integer or a float from `low` to `high`."""
    return Check(f"a number from {low:g} to {high:g}", lambda value: type(value) in (int, float) and low <= value <= high)


def text(least: int, most: int) -> Check:
    """Any text of `least` to `most` bytes of UTF-8."""
    return Check(f"text of {least} to {most} bytes", lambda value: isinstance(value, str) and least <= _utf8_size(value) <= most)


def secret(check: Check) -> Check:
    """What `check` accepts, and nobody else may see."""
    return replace(check, secret=True)


def matching(pattern: str, expected: str) -> Check:
    """Text that a regular expression matches from end to end."""
    compiled = re.compile(pattern)
    return Check(expected, lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None)


def word(*choices: str) -> Check:
    """One of a few words."""
    return Check(" or ".join(map(repr, choices)), lambda value: isinstance(value, str) and value in choices)


flag = Check("true or false", lambda value: isinstance(value, bool))


class Checked:
    """A dataclass that checks its fields when it is made; raises `LocalProtocolError`.

    `type` is what error messages, and the wire, call it.
    """

    __slots__ = ()
    type: ClassVar[str]

    def __post_init__(self) -> None:
        for name, rule in _rules(type(self)).items():
            value = getattr(self, name)
            if not (rule.nullable if value is None else rule.check.accepts(value)):
                told = f"of type {type(value).__name__}" if rule.check.secret else shown(value)
                raise LocalProtocolError(f"{self.type}: {name} is {told}, expected {rule.expected}")
        self._check_together()

    def _check_together(self) -> None:
        """What one field says about another."""


def from_map(cls: type[T], values: Mapping[str, object]) -> T:
    """Make a checked dataclass from a map: keys that it lacks are ignored, a missing key stands for the field's default.

    Raises `LocalProtocolError`.
    """
    picked: dict[str, object] = {}
    for name, rule in _rules(cls).items():
        if name in values:
            value = tuple(found) if isinstance(found := values[name], list) else found
            picked[name] = from_map(rule.record, value) if rule.record is not None and isinstance(value, dict) else value
        elif rule.required:
            raise LocalProtocolError(f"{cls.type}: {name} is missing, expected {rule.expected}")
    return cls(**picked)


def shown(value: object) -> str:
    """A value for an error message, shortened: a peer decides how long it is."""
    return _SHORT.repr(value)


@dataclass(frozen=True)
class _Rule:
    check: Check
    nullable: bool
    required: bool
    record: type[Checked] | None

    @property
    def expected(self) -> str:
        return self.check.expected + (" or null" if self.nullable else "")


def _rules(cls: type[Checked]) -> dict[str, _Rule]:
    if cls not in _RULES:
        hints = typing.get_type_hints(cls, include_extras=True)
        assert is_dataclass(cls)
        _RULES[cls] = {field.name: _rule(hints[field.name], field.default is MISSING) for field in fields(cls)}
    return _RULES[cls]


def _rule(hint: Any, required: bool) -> _Rule:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    nullable = type(None) in options
    (option,) = (option for option in options if option is not type(None))
    if typing.get_origin(option) is typing.Annotated:
        return _Rule(option.__metadata__[0], nullable, required, None)
    assert issubclass(option, Checked)
    guarded = any(rule.check.secret for rule in _rules(option).values())
    return _Rule(Check(f"a map ({option.__name__})", lambda value: isinstance(value, option), guarded), nullable, required, option)


def _utf8_size(value: str) -> int:
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        return -1


_RULES: dict[Any, dict[str, _Rule]] = {}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxdict = 4
_SHORT.maxlevel = 2
