"""Served LPU systems as they were built: the rows say what the measured file says, and the rule alone gives the early speeds."""

import csv
import math
from pathlib import Path

import pytest

from validation.claims import read_claims
from validation.measures import as_built

MEASURED = Path(__file__).resolve().parents[3] / "shared" / "measured" / "lpu.csv"
ROWS = [claim for claim in read_claims() if claim.id.startswith("R")]


@pytest.mark.skipif(not MEASURED.exists(), reason="the measured file is not part of a checkout")
def test_every_measured_row_is_a_row_with_its_value():
    with MEASURED.open() as file:
        measured = sorted(float(row["value"]) for row in csv.DictReader(file))
    assert sorted(claim.published[0] for claim in ROWS) == measured


@pytest.mark.parametrize("name", ["R1", "R2", "R3", "R5"])
def test_speeds_of_spring_2024_follow_from_the_rule(name):
    """Within 1.25 of what was published between February and April 2024, two of them without having led to the rule."""
    claim = next(claim for claim in ROWS if claim.id == name)
    ratio = as_built(**claim.arguments).value / claim.published[0]
    assert abs(math.log(ratio)) <= math.log(1.25)


def test_one_time_a_layer_from_7b_to_180b():
    """Published speeds have 36 to 48 us a layer; wider layers on more chips take about as long."""
    cases = {
        "llama-2-7b": ("1rack", 32),
        "llama-3-8b": ("64chip", 32),
        "gemma-7b": ("1rack", 28),
        "falcon-180b": ("1500chip", 80),
    }
    each = [1e6 / as_built(topology, llm=llm, context=2048).value / layers for llm, (topology, layers) in cases.items()]
    assert max(each) / min(each) < 1.35
    assert all(33 < time < 48 for time in each)
