"""The cost of a saved run from its folder alone."""

import json

import pytest

from dcsim.economics.cost import run_cost
from dcsim.errors import RunStoreError
from dcsim.results import records
from dcsim.study import scenario


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cost") / "run"
    scenario.load("64chip", duration="2 s").run(1, out=folder)
    return folder


def test_a_saved_run_says_what_its_tokens_cost(folder):
    run = records.open_run(folder)
    result = run_cost(run, rent="rent-a100")
    bases = result["bases"]
    assert set(bases) == {"buy", "build", "rent"}
    assert bases["buy"]["capital_usd"] == pytest.approx(sum(line["usd"] for line in bases["buy"]["lines"]))
    assert result["parts"]["chips"] == 64
    electricity = bases["buy"]["terms"]["electricity"] + bases["buy"]["terms"]["overhead"]
    # 0.067 USD/kWh; the model's year has 360 days in its electricity and 8,760 h in its life.
    assert electricity == pytest.approx(run.summary["energy_j_per_token"] / 3.6e6 * 0.067 * 1e6, rel=0.02)
    assert bases["rent"]["usd_per_h"] == pytest.approx(64.0)
    assert bases["buy"]["usd_per_mtoken"] > bases["build"]["usd_per_mtoken"]
    assert all(line["kind"] for line in bases["buy"]["lines"])


def test_a_tenth_more_for_a_card_costs_its_share(folder):
    result = run_cost(records.open_run(folder))["bases"]["buy"]
    bar = next(bar for bar in result["sensitivities"] if bar["parameter"]["name"] == "chip.price.buy")
    cards = next(line["usd"] for line in result["lines"] if line["item"] == "chip card")
    owned = sum(result["terms"][name] for name in ("server", "server_interest", "server_upkeep"))
    assert bar["elasticity"] == pytest.approx(owned / result["usd_per_mtoken"] * cards / result["capital_usd"], rel=1e-6)


def test_a_run_without_parts_says_so(folder, tmp_path):
    run = records.open_run(folder)
    del run.meta["parts"]
    with pytest.raises(RunStoreError, match="run it again"):
        run_cost(run)
    assert json.loads((folder / "meta.json").read_text())["parts"]["nodes"] == 8
