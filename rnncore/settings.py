"""Settings as dataclasses: default, rule and help of each stand once, in its field."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from rnncore.arguments import check_flag, check_size, is_number


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number of at least `least`."""

    least: int = 1

    def check(self, name: str, value: Any) -> None:
        """Refuse anything else."""
        check_size(name, value, self.least)


@dataclasses.dataclass(frozen=True)
class Positive:
    """A number above 0; infinity only where `infinite`."""

    infinite: bool = False

    def check(self, name: str, value: Any) -> None:
        """Refuse anything else."""
        if not is_number(value) or not value > 0 or (math.isinf(value) and not self.infinite):
            kind = "number" if self.infinite else "finite number"
            raise ValueError(f"{name}: expected a {kind} above 0, got {value!r}")


@dataclasses.dataclass(frozen=True)
class AtLeastZero:
    """A finite number of at least 0."""

    def check(self, name: str, value: Any) -> None:
        """Refuse anything else."""
        if not is_number(value) or not 0 <= value < math.inf:
            raise ValueError(f"{name}: expected a finite number from 0, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Share:
    """A number of at least 0 and below 1."""

    def check(self, name: str, value: Any) -> None:
        """Refuse anything else."""
        if not is_number(value) or not 0 <= value < 1:
            raise ValueError(f"{name}: expected a number from 0 to below 1, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Shares:
    """A number of at least 0 and below 1, or a pair of them."""

    def check(self, name: str, value: Any) -> None:
        """Refuse anything else."""
        for one in value if isinstance(value, tuple | list) else (value,):
            Share().check(name, one)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some names."""

    names: tuple[str, ...]

    def check(self, name: str, value: Any) -> None:
        """Refuse anything else."""
        if value not in self.names:
            raise ValueError(f"{name}: expected one of {', '.join(self.names)}, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    def check(self, name: str, value: Any) -> None:
        """Refuse anything else."""
        check_flag(name, value)


S = TypeVar("S")
Rule = Whole | Positive | AtLeastZero | Share | Shares | Choice | Flag


def setting(
    default: Any, rule: Rule, help: str = "", fixed: bool = False, **then: Any
) -> Any:
    """Return a dataclass field; `fixed` settings cannot change when a training is resumed.

    ``then=value`` is what it was, unsaid, in files from before there was such a setting.
    """
    about = {"rule": rule, "help": help, "fixed": fixed, **then}
    return dataclasses.field(default=default, metadata=about)


def kept_values(kind: type, kept: dict[str, Any]) -> dict[str, Any]:
    """Return the values of these settings that a file keeps, an older one included.

    Raises
    ------
    KeyError
        If one is missing that there has always been.
    """
    return {
        field.name: kept[field.name]
        if field.name in kept or "then" not in field.metadata
        else field.metadata["then"]
        for field in dataclasses.fields(kind)
    }


def chosen(kind: type[S], settings: S | None, values: dict[str, Any]) -> S:
    """Return the settings that a constructor took, whole or value by value.

    Raises
    ------
    TypeError
        If it took both.
    ValueError
        If a value breaks its rule.
    """
    if settings is not None and values:
        raise TypeError(f"settings: expected them alone, got {', '.join(values)} as well")
    return settings or kind(**values)


def check_settings(settings: Any) -> None:
    """Refuse values of a dataclass instance that break their rules; None where it is the default.

    Raises
    ------
    ValueError
        Naming the first one.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is not None or field.default is not None:
            field.metadata["rule"].check(field.name, value)
