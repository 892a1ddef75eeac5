"""What every section of a spec shares: quantities with units, frozen values, and a memory of what was read."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from dcsim import units

# A field `latency_s` is written `latency: 300 ns` in a file: the unit stands in the file's value.
_SUFFIXES = ("_bytes_per_s", "_flop_per_s", "_per_s", "_bytes", "_usd", "_hz", "_mm2", "_s", "_w", "_j", "_m")


def file_key(field_name: str) -> str:
    """The key under which `field_name` stands in a file: its name less the unit."""
    for suffix in _SUFFIXES:
        if field_name.endswith(suffix):
            return field_name.removesuffix(suffix)
    return field_name


def _quantity(dimension: str) -> BeforeValidator:
    return BeforeValidator(lambda value: units.parse_quantity(value, dimension))


Time = Annotated[float, _quantity(units.TIME), Field(ge=0)]
Data = Annotated[float, _quantity(units.DATA), Field(ge=0)]
Rate = Annotated[float, _quantity(units.RATE), Field(gt=0)]
LinkRate = Annotated[Rate, Field(ge=1, le=1e15)]  # a byte takes a femtosecond to a second: what integer times can hold
Latency = Annotated[float, _quantity(units.TIME), Field(ge=0, le=1)]  # of one part on a message's way
Frequency = Annotated[float, _quantity(units.FREQUENCY), Field(gt=0)]
Power = Annotated[float, _quantity(units.POWER), Field(ge=0)]
Energy = Annotated[float, _quantity(units.ENERGY), Field(ge=0)]
Money = Annotated[float, _quantity(units.MONEY), Field(ge=0)]
Length = Annotated[float, _quantity(units.LENGTH), Field(ge=0)]
Compute = Annotated[float, _quantity(units.COMPUTE), Field(gt=0)]
Events = Annotated[float, _quantity(units.EVENTS), Field(ge=0)]
Drift = Annotated[float, _quantity(units.DRIFT), Field(ge=0)]
Area = Annotated[float, _quantity(units.AREA), Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[int, Field(ge=1, strict=True)]


def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list that must not be empty. Unlike a least length this speaks only of a list without other errors."""
    if not values:
        raise ValueError("needs at least one entry")
    return values


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

    def fields_read(self) -> frozenset[str]:
        """The names of the fields read so far."""
        return frozenset(self._read)


class Named(Section):
    """A catalog entry. `name`, `description` and `source` label results and never decide anything."""

    name: str = Field(default="", description="How results call it.")
    description: str = Field(default="", description="A sentence for readers.")
    source: str = Field(default="", description="Where the figures of this entry come from, unless a figure names its own.")
