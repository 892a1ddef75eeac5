"""The dashboard builds from a run folder, shows the run that is picked, and refuses what is no run."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dcsim.errors import RunStoreError
from dcsim.results.records import read_json

pytest.importorskip("dash", reason="the dashboard extra is not installed")

import dashboard
from dashboard.app import PAGES, make_app
from dashboard.pages import run as run_page
from dashboard.runs import Runs
from dashboard.words import value_text


def parts(component, kind):
    """All components of a type below one, in order."""
    found = [component] if type(component).__name__ == kind else []
    children = getattr(component, "children", None) or []
    for child in children if isinstance(children, (list, tuple)) else [children]:
        found += parts(child, kind)
    return found


def ask(app, output, **inputs):
    """Call a callback as the browser does."""
    body = {
        "output": output,
        "outputs": {"id": output.split(".")[0], "property": output.split(".")[1]},
        "inputs": [{"id": i, "property": p, "value": v} for i, (p, v) in inputs.items()],
        "changedPropIds": [f"{i}.{p}" for i, (p, _) in inputs.items()],
    }
    answer = app.server.test_client().post("/_dash-update-component", json=body)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text)["response"][output.split(".")[0]][output.split(".")[1]]


def test_the_front_page_offers_the_runs_beside_the_given_one(make_run, tmp_path):
    first = make_run(tmp_path / "older")
    make_run(tmp_path / "newer", seed=6)
    os.utime(first / "meta.json", (1e9, 1e9))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "meta.json").write_text("{}")
    app = make_app(first)
    page = json.dumps(ask(app, "page.children", address=("pathname", "/")))
    assert page.index('"value": "newer"') < page.index('"value": "older"')
    assert '"value": "other"' not in page
    (picker,) = parts(run_page.layout(Runs(first)), "Dropdown")
    assert picker.value == "older"


def test_picking_a_run_shows_its_four_figures_and_its_numbers(make_run, tmp_path):
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", seed=6)
    app = make_app(tmp_path / "one")
    for name in ("one", "two"):
        view = ask(app, "run-view.children", run=("value", name))
        text = json.dumps(view)
        assert text.count('"type": "Graph"') == 4
        summary = read_json(tmp_path / name, "summary")
        assert summary["digest"] in text
        assert "made-up" in text
        assert "fabric.cable_m" in text


def test_every_tile_has_its_number_and_its_meaning(make_run, tmp_path):
    run = Runs(make_run(tmp_path / "one")).open("one")
    tiles = [d for d in parts(run_page.view(run), "Div") if getattr(d, "className", "") == "tile"]
    assert len(tiles) == len(run_page.TILES)
    for tile, (label, main, small) in zip(tiles, run_page.TILES, strict=True):
        values = [s for s in parts(tile, "Span") if getattr(s, "className", "") == "value"]
        shown = {value.to_plotly_json()["props"]["data-metric"] for value in values}
        assert shown == {main, *small}
        (meaning,) = [d for d in parts(tile, "Div") if getattr(d, "className", "") == "meaning"]
        assert [c.children for c in parts(meaning, "Code")] == [main, *small]
        assert tile.children[0].children == label


def test_numbers_carry_their_units():
    assert value_text("ttft_s_p50", 0.10091) == "100.9 ms"
    assert value_text("power_w_mean", 88_612.0) == "88.61 kW"
    assert value_text("slo_met_fraction", 0.9717) == "97.2 %"
    assert value_text("tokens_per_s_per_user_p50", 314.86) == "314.9 tokens/s"
    assert value_text("requests_in", 19_366) == "19,366"
    assert value_text("tpot_s_p99", None) == "–"
    assert value_text("seed", 1234567) == "1234567"


def test_an_empty_run_is_shown_too(make_run, tmp_path):
    make_run(tmp_path / "none", count=0)
    view = json.dumps(ask(make_app(tmp_path / "none"), "run-view.children", run=("value", "none")))
    assert view.count("no data in this run") >= 2


def test_a_folder_that_holds_no_run_is_refused(make_run, tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(RunStoreError, match=r"photos: not a readable run folder"):
        make_app(tmp_path / "photos")
    with pytest.raises(RunStoreError, match="absent"):
        make_app(tmp_path / "absent")


def test_a_page_cannot_ask_for_a_run_elsewhere(make_run, tmp_path):
    make_run(tmp_path / "runs" / "one")
    make_run(tmp_path / "secret")
    app = make_app(tmp_path / "runs" / "one")
    for name in ("../secret", str(tmp_path / "secret"), "", None):
        view = json.dumps(ask(app, "run-view.children", run=("value", name)))
        assert "no such run" in view
        assert "Graph" not in view


def test_a_run_that_goes_or_breaks_while_the_page_is_open_gives_a_message(make_run, tmp_path):
    make_run(tmp_path / "one")
    make_run(tmp_path / "two", seed=6)
    app = make_app(tmp_path / "one")
    (tmp_path / "one" / "requests.parquet").write_bytes(b"broken")
    shutil.rmtree(tmp_path / "two")
    for name, message in (("one", "requests.parquet cannot be read"), ("two", "two: no such run")):
        assert message in json.dumps(ask(app, "run-view.children", run=("value", name)))


def test_an_unknown_address_gets_an_answer(make_run, tmp_path):
    app = make_app(make_run(tmp_path / "one"))
    assert "no page /nowhere" in json.dumps(ask(app, "page.children", address=("pathname", "/nowhere")))
    assert next(iter(PAGES)) == "/"


def test_pages_ask_nothing_of_other_machines(make_run, tmp_path):
    page = make_app(make_run(tmp_path / "one")).server.test_client().get("/").text
    assert "<script" in page
    for mark in ('src="http', 'href="http', 'src="//', 'href="//', "@import"):
        assert mark not in page
    styles = [path.read_text() for path in (Path(dashboard.__file__).parent / "assets").glob("*.css")]
    assert styles
    assert not [text for text in styles if "http" in text or "url(" in text]
