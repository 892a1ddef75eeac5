"""Optics at chips' ends of cables between racks: a line of the bill, with its source, in every command that prices a cluster."""

import json

import pytest
from command import dcsim

PRICE = "network.prices.optical_end=100 USD"


def answer(folder, *words):
    code, out, err = dcsim(*words, "--json", cwd=folder)
    assert code == 0, err
    return json.loads(out)


def test_every_optical_end_is_paid_for(tmp_path):
    saved = answer(tmp_path, "run", "8rack", "--duration", "10 s", "--set", PRICE, "--out", "r")
    assert saved["requests_in"] > 0
    cost = answer(tmp_path, "cost", "r")
    ends = cost["parts"]["optical_ends"]
    (line,) = (line for line in cost["bases"]["buy"]["lines"] if line["item"] == "optical end")
    assert ends > 0
    assert (line["count"], line["usd"]) == (ends, 100 * ends)
    answer(tmp_path, "run", "8rack", "--duration", "10 s", "--out", "bare")
    bare = answer(tmp_path, "cost", "bare")["bases"]["buy"]
    assert cost["bases"]["buy"]["capital_usd"] == pytest.approx(bare["capital_usd"] + 100 * ends)
    assert all(line["item"] != "optical end" or line["usd"] == 0 for line in bare["lines"])
