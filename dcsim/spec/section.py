"""What every section of a spec shares: quantities with units, frozen values, and a memory of what was read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo
from pydantic_core import core_schema

from dcsim import units
from dcsim.errors import shown

_MOST, _COUNT_MOST = 1e24, 10**15  # no quantity of a datacenter is beyond; products of a few can still be counted
# A field `latency_s` is written `latency: 300 ns` in a file: the unit stands in the file's value.
_SUFFIXES = ("_bytes_per_s", "_flop_per_s", "_per_s", "_bytes", "_usd", "_hz", "_mm2", "_s", "_w", "_j", "_m")


def file_key(field_name: str) -> str:
    """The key under which `field_name` stands in a file: its name less the unit."""
    for suffix in _SUFFIXES:
        if field_name.endswith(suffix):
            return field_name.removesuffix(suffix)
    return field_name


_SAVED = "base units"  # validation context of a spec as a run saves it: plain numbers


@dataclass(frozen=True, slots=True)
class Quantity:
    """Marks a number that stands with its unit in a file; none that is not 0 may be below `least`, or beyond counting."""

    dimension: str
    least: float = 0.0

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """What an editor is told: a text with a unit of the dimension, or 0."""
        known = "|".join(re.escape(unit) for unit in units.UNITS[self.dimension])
        text = {
            "type": "string",
            "pattern": rf"^\s*[+-]?[0-9._]+([eE][+-]?[0-9]+)?\s*({known})\s*$",
            "examples": [units.EXAMPLES[self.dimension]],
        }
        return {"anyOf": [text, {"const": 0}]}

    def _read(self, value: Any, info: ValidationInfo) -> float:
        saved = info.context == _SAVED and isinstance(value, (int, float))
        number = float(value) if saved else units.parse_quantity(value, self.dimension)
        if abs(number) > _MOST:
            raise ValueError(f"{number:g} exceeds anything that can be counted ({_MOST:g})")
        if 0 < number < self.least:
            raise ValueError(f"{number:g} is less than anything that can be counted ({self.least:g})")
        return number


def _countable(number: int) -> int:
    if number > _COUNT_MOST:
        raise ValueError(f"{number} exceeds anything that can be counted ({_COUNT_MOST:,})")
    return number


Time = Annotated[float, Quantity(units.TIME), Field(ge=0)]
Data = Annotated[float, Quantity(units.DATA), Field(ge=0)]
Rate = Annotated[float, Quantity(units.RATE, least=1.0), Field(gt=0)]
# A byte takes a femtosecond to a second: what integer times can hold.
LinkRate = Annotated[float, Quantity(units.RATE), Field(ge=1, le=1e15)]
Latency = Annotated[float, Quantity(units.TIME), Field(ge=0, le=1)]  # of one part on a message's way
Frequency = Annotated[float, Quantity(units.FREQUENCY, least=1.0), Field(gt=0)]
Power = Annotated[float, Quantity(units.POWER), Field(ge=0)]
Energy = Annotated[float, Quantity(units.ENERGY), Field(ge=0)]
Money = Annotated[float, Quantity(units.MONEY), Field(ge=0)]
Length = Annotated[float, Quantity(units.LENGTH), Field(ge=0)]
Compute = Annotated[float, Quantity(units.COMPUTE, least=1.0), Field(gt=0)]
Events = Annotated[float, Quantity(units.EVENTS), Field(ge=0)]
Drift = Annotated[float, Quantity(units.DRIFT), Field(ge=0)]
Area = Annotated[float, Quantity(units.AREA), Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, strict=True), AfterValidator(_countable)]
Positive = Annotated[int, Field(ge=1, strict=True), AfterValidator(_countable)]


@dataclass(frozen=True, slots=True)
class KindOf:
    """Marks a text that names one of a table of policies. The table is looked at when a file is read, so it may grow."""

    kinds: Mapping[str, Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, kind: str) -> str:
        if kind not in self.kinds:
            *first, last = (f"'{known}'" for known in self.kinds)
            raise ValueError(f"input should be {', '.join(first)} or {last}, got {shown(kind)}")
        return kind


def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list that must not be empty. Unlike a least length this speaks only of a list without other errors."""
    if not values:
        raise ValueError("needs at least one entry")
    return values


def entries(least: int, most: int | None = None) -> AfterValidator:
    """A list has so many entries; as `some`, this speaks only of a list without other errors."""

    def check(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(values) < least or (most is not None and len(values) > most):
            wanted = str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"
            raise ValueError(f"needs {wanted} entries, has {len(values)}")
        return values

    return AfterValidator(check)


class Section(BaseModel):
    """A frozen part of a spec. Remembers which of its fields were read, so a run can name keys without effect."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=file_key,
        protected_namespaces=(),
        allow_inf_nan=False,
        defer_build=True,
    )
    _read: set[str] = PrivateAttr(default_factory=set)
    _fields: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        cls._fields = frozenset(cls.model_fields)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name[0] != "_" and name in type(self)._fields:
            private = super().__getattribute__("__pydantic_private__")
            if private is not None:
                private["_read"].add(name)
        return value

    @classmethod
    def from_saved(cls, tree: Any) -> Self:
        """The section of a spec as a run saves it: nested mappings under the files' keys, in base units."""
        return cls.model_validate(tree, context=_SAVED)

    def saved(self) -> dict[str, Any]:
        """The section as a run saves it, for `from_saved`."""
        return self.model_dump(mode="json", by_alias=True)

    def fields_read(self) -> frozenset[str]:
        """The names of the fields read so far."""
        return frozenset(self._read)

    def forget_reads(self) -> None:
        """Begin again, here and in all sections below: checks that a spec is whole read it and use nothing of it."""
        self._read.clear()
        for value in self.__dict__.values():
            parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
            for part in parts:
                if isinstance(part, Section):
                    part.forget_reads()

    def reads(self) -> dict[str, Any]:
        """What was read so far, here and in all sections below, for `take_as_read`."""
        inner = {}
        for place, part in self._sections():
            found = part.reads()
            if found:
                inner[place] = found
        return {"": sorted(self._read)} | inner if self._read or inner else {}

    def take_as_read(self, reads: dict[str, Any]) -> None:
        """Count as read what was read of an equal section."""
        self._read.update(reads.get("", ()))
        for place, part in self._sections():
            part.take_as_read(reads.get(place, {}))

    def _sections(self) -> Iterator[tuple[str, Section]]:
        """The sections right below, by their places."""
        for name, value in self.__dict__.items():
            if isinstance(value, Section):
                yield name, value
            elif isinstance(value, dict):
                yield from ((f"{name}.{key}", part) for key, part in value.items() if isinstance(part, Section))
            elif isinstance(value, tuple):
                yield from ((f"{name}.{i}", part) for i, part in enumerate(value) if isinstance(part, Section))

    def __eq__(self, other: object) -> bool:
        """Two sections are equal if they are of one kind and say the same, whatever was read of either.

        Comparing is no reading: what a model makes of an answer it must read.
        """
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        """Equal sections have equal hashes."""
        values = (tuple(value.items()) if isinstance(value, dict) else value for value in self.__dict__.values())
        return hash((type(self), *values))


class Named(Section):
    """A catalog entry. `name`, `description` and `source` label results and never decide anything."""

    name: str = Field(default="", description="How results call it.")
    description: str = Field(default="", description="A sentence for readers.")
    source: str = Field(default="", description="Where the figures of this entry come from, unless a figure names its own.")


def field_name(section: Section, key: str) -> str:
    """The field that stands under `key` in a file."""
    return next((name for name, field in type(section).model_fields.items() if (field.alias or name) == key), key)


def dimension_at(section: Any, key: str) -> str | None:
    """The dimension of what stands under `key` of a section; None for no section, no such key and what has no unit."""
    field = type(section).model_fields.get(field_name(section, key)) if isinstance(section, Section) else None
    return _dimension([*field.metadata, field.annotation]) if field is not None else None


def _dimension(parts: Any) -> str | None:
    for part in parts:
        found = (
            part.dimension if isinstance(part, Quantity) else _dimension((*get_args(part), *getattr(part, "__metadata__", ())))
        )
        if found is not None:
            return found
    return None


def part_at(part: Any, path: tuple[str, ...]) -> Any:
    """What stands at a dotted path of file keys, places in a list as numbers; None where nothing does. Reads nothing."""
    for key in path:
        if isinstance(part, Section):
            part = part.__dict__.get(field_name(part, key))
        elif isinstance(part, dict):
            part = part.get(key)
        elif isinstance(part, tuple):
            part = part[int(key)] if key.isdigit() and int(key) < len(part) else None
        else:
            return None
    return part


def with_value(part: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy of a section, mapping or list with another value at a dotted path of file keys; checks are not repeated."""
    if not path:
        return value
    inner = with_value(part_at(part, path[:1]), path[1:], value)
    if isinstance(part, tuple):
        place = int(path[0])
        return (*part[:place], inner, *part[place + 1 :])
    if isinstance(part, dict):
        return {**part, path[0]: inner}
    return part.model_copy(update={field_name(part, path[0]): inner})


def was_read(section: Any, path: tuple[str, ...]) -> bool:
    """Whether the field at a dotted path of file keys has been read since the spec was made.

    Labels count as read, and so does a `kind`, which has chosen what its section is.
    """
    for i, key in enumerate(path):
        if isinstance(section, Section):
            name = field_name(section, key)
            apart = name == "kind" or (isinstance(section, Named) and name in LABELS)
            if name in type(section).model_fields and not apart and name not in section.fields_read():
                return False
        section = part_at(section, path[i : i + 1])
    return True


LABELS = ("name", "description", "source", "version")  # of a `Named` section: they label results and decide nothing
