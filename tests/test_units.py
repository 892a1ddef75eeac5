import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsim import units


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("300 ns", units.TIME, 3e-7),
        ("300ns", units.TIME, 3e-7),
        ("1_000 us", units.TIME, 1e-3),
        ("1.5 h", units.TIME, 5400),
        ("220 MiB", units.DATA, 230_686_720),
        ("8 b", units.DATA, 1),
        ("1 GB", units.DATA, 1e9),
        ("1 Gb", units.DATA, 1.25e8),
        ("100 Gb/s", units.RATE, 12.5e9),
        ("12.5 GB/s", units.RATE, 12.5e9),
        ("900 MHz", units.FREQUENCY, 9e8),
        ("50 ppm", units.DRIFT, 5e-5),
        ("0", units.TIME, 0),
        (0, units.POWER, 0),
        ("1e3 W", units.POWER, 1000),
    ],
)
def test_values(text, dimension, value):
    assert units.parse_quantity(text, dimension) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "dimension", "mend"),
    [
        (300, units.TIME, "needs a unit, for example '300 ns'"),
        ("300", units.TIME, "needs a unit"),
        ("300 GB", units.TIME, "unit of data"),
        ("3 parsec", units.LENGTH, "unknown unit 'parsec'"),
        ("12.5 GB", units.RATE, "unit of data"),
        (True, units.TIME, "expected a time"),
        ("fast", units.TIME, "cannot read"),
        (None, units.TIME, "expected a time"),
    ],
)
def test_mistakes_say_how_to_mend(value, dimension, mend):
    with pytest.raises(ValueError, match=mend.replace("(", r"\(")):
        units.parse_quantity(value, dimension)


@given(st.floats(1e-12, 1e6))
def test_format_time_reads_back(seconds):
    assert units.parse_quantity(units.format_time(seconds, 12), units.TIME) == pytest.approx(seconds, rel=1e-9)


def test_every_dimension_has_an_example_that_parses():
    assert set(units.EXAMPLES) == set(units.UNITS)
    for dimension, example in units.EXAMPLES.items():
        assert units.parse_quantity(example, dimension) > 0


@pytest.mark.parametrize("dimension", units.UNITS)
def test_every_unit_of_the_table_can_be_written(dimension):
    for unit, factor in units.UNITS[dimension].items():
        for number in ("7", "7.5", "7e3"):
            assert units.parse_quantity(f"{number} {unit}", dimension) == float(number) * factor
