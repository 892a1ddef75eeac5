"""The dashboard starts with nothing, shows what lies in its folder, and lets no file, name or address out of its place."""

import json
import re
import shutil
from pathlib import Path

import pytest

from dcsim.errors import SpecError
from dcsim.results.records import read_json

pytest.importorskip("dash", reason="the dashboard extra is not installed")

import dashboard
from dashboard.app import PAGES, make_app
from dashboard.guard import is_loopback
from dashboard.pages import compare as compare_page
from dashboard.pages import run as run_page
from dashboard.runs import RunFolder
from dashboard.state import read_state
from dashboard.words import value_text


def shown(component):
    """A page's part as the browser gets it."""
    from plotly.utils import PlotlyJSONEncoder

    return json.dumps(component, cls=PlotlyJSONEncoder)


def page(app, address, **query):
    """The layout of a page at an address."""
    with app.server.app_context():
        return shown(PAGES[address].layout(**query))


def parts(component, kind):
    """All components of a type below one, in order."""
    found = [component] if type(component).__name__ == kind else []
    children = getattr(component, "children", None) or []
    for child in children if isinstance(children, (list, tuple)) else [children]:
        found += parts(child, kind)
    return found


def test_every_page_draws_with_an_empty_store(tmp_path):
    app = make_app(tmp_path / "none")
    for address in PAGES:
        assert '"type": "Div"' in page(app, address)
        assert app.server.test_client().get(address).status_code == 200
    assert "No run here yet" in page(app, "/run")
    assert not (tmp_path / "none").exists()


def test_runs_are_offered_the_newest_first_and_strangers_named(make_run, tmp_path):
    import os

    first = make_run(tmp_path / "older")
    make_run(tmp_path / "newer", seed=6)
    os.utime(first / "meta.json", (1e9, 1e9))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "meta.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    drawn = page(make_app(tmp_path), "/run")
    assert drawn.index('"value": "newer"') < drawn.index('"value": "older"')
    assert "2 folders here hold no run" in drawn
    assert '"value": "other"' not in drawn


@pytest.mark.parametrize("name", ["summary", "meta", "spec"])
@pytest.mark.parametrize("content", ["{}", "[]", "3", '"x"', "{", "\x00"])
def test_one_broken_folder_harms_no_other(make_run, tmp_path, name, content):
    make_run(tmp_path / "good")
    make_run(tmp_path / "broken")
    (tmp_path / "broken" / f"{name}.json").write_text(content)
    runs, strangers = RunFolder(tmp_path).all()
    assert [run.folder.name for run in runs] == ["good"]
    assert [stranger.name for stranger in strangers] == ["broken"]
    assert '"value": "good"' in page(make_app(tmp_path), "/run")


def test_a_run_shows_its_figures_and_every_number_with_its_meaning(make_run, tmp_path):
    run = RunFolder(tmp_path).open(make_run(tmp_path / "one").name)
    view = shown(run_page.view(run))
    assert view.count('"type": "Graph"') >= 4
    assert read_json(tmp_path / "one", "summary")["digest"] in view
    assert "fabric.cable_m" in view
    tiles = [d for d in parts(run_page.view(run), "Div") if getattr(d, "className", "") == "tile"]
    for tile, (_, main, small) in zip(tiles, run_page.TILES, strict=True):
        assert set(re.findall(r'"data-metric": "(\w+)"', shown(tile))) == {main, *small}
        assert all(run_page.MEANING[name] in shown(tile) for name in (main, *small))


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
    assert shown(run_page.view(RunFolder(tmp_path).open("none"))).count("no data in this run") >= 2


def test_a_page_cannot_ask_for_a_run_elsewhere(make_run, tmp_path):
    from dcsim.errors import RunStoreError

    make_run(tmp_path / "runs" / "one")
    make_run(tmp_path / "secret")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "secret")
    for name in ("../secret", str(tmp_path / "secret"), "link", "", ".", None):
        with pytest.raises(RunStoreError, match="no such run"):
            RunFolder(tmp_path / "runs").open(name)


def test_a_run_that_goes_or_breaks_while_the_page_is_open_gives_a_message(make_run, tmp_path):
    from dcsim.errors import RunStoreError

    make_run(tmp_path / "one")
    make_run(tmp_path / "two", seed=6)
    own = RunFolder(tmp_path)
    (tmp_path / "one" / "requests.parquet").write_bytes(b"broken")
    shutil.rmtree(tmp_path / "two")
    with pytest.raises(RunStoreError, match=r"requests.parquet cannot be read"):
        run_page.view(own.open("one"))
    with pytest.raises(RunStoreError, match="no such run"):
        own.open("two")


def test_what_a_file_says_is_never_a_part_of_the_page(make_run, tmp_path):
    """Dash makes components of objects with these keys; a spec that has some must be shown as the text it is."""
    component = {"namespace": "dash_html_components", "type": "Script", "props": {"children": "alert(1)"}}
    folder = make_run(tmp_path / "one")
    spec = json.loads((folder / "spec.json").read_text())
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "spec.json").write_text(json.dumps(spec | {"description": component, "name": component}))
    meta |= {"llm": component, "interconnect": component, "unused_keys": [component]}
    (folder / "meta.json").write_text(json.dumps(meta))
    own = RunFolder(tmp_path)
    for drawn in (shown(run_page.view(own.open("one"))), page(make_app(tmp_path), "/run")):
        assert "alert(1)" in drawn
        assert '"type": "Script"' not in drawn


def test_a_bad_address_gives_a_notice_and_never_a_blank_page(tmp_path):
    app = make_app(tmp_path)
    bad = {"chips": "9999999", "llm": "<script>", "networks": "scheduled,nosuch", "batch": "-1", "rate": "nan", "nosuch": "1"}
    drawn = page(app, "/", **bad)
    values, notices = read_state(compare_page.CONTROLS, bad)
    assert len(notices) == len(bad)
    assert all(json.dumps(notice)[1:-1] in drawn for notice in notices)
    assert values == {control.name: control.default for control in compare_page.CONTROLS}
    values, notices = read_state(compare_page.CONTROLS, {"chips": "600", "networks": "scheduled,roce-400g", "rate": "7.5"})
    assert not notices
    assert (values["chips"], values["networks"], values["rate"]) == (600, ["scheduled", "roce-400g"], 7.5)


def test_a_file_that_was_brought_is_offered_where_it_can_be_used(tmp_path):
    folder = tmp_path / ".dashboard" / "uploads"
    folder.mkdir(parents=True)
    for name in ("mine.yaml", "config.json", "trace.csv.gz", "trace.jsonl"):
        (folder / name).write_text("")
    with make_app(tmp_path).server.app_context():
        (form,) = (part for part in parts(PAGES["/run"].layout(), "Details") if "form" in part.className)
    offered = {select.id: {entry["value"] for entry in select.data} for select in parts(form, "Select")}
    mine = {name: values & {path.name for path in folder.iterdir()} for name, values in offered.items()}
    assert mine["run-form-topology"] == mine["run-form-interconnect"] == {"mine.yaml"}
    assert mine["run-form-llm"] == {"mine.yaml", "config.json"}
    assert mine["run-form-workload"] == {"mine.yaml", "trace.csv.gz", "trace.jsonl"}


@pytest.mark.parametrize("address", ["/", "/run", "/_dash-layout", "/_dash-dependencies"])
def test_a_server_answers_under_its_own_name_only(tmp_path, address):
    client = make_app(tmp_path).server.test_client()
    assert client.get(address, headers={"Host": "localhost:8050"}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8050", "[::2]", ""):
        assert client.get(address, headers={"Host": host}).status_code == 400, host


def test_elsewhere_than_on_loopback_a_token_lets_people_in(tmp_path):
    client = make_app(tmp_path, names=(), token="open sesame").server.test_client()
    for address in ("/", "/_dash-layout", "/?token=wrong", "/run?token=open+sesame"):
        assert client.get(address).status_code == 401, address
    assert client.get("/?token=open+sesame").status_code == 303
    assert client.get("/_dash-layout").status_code == 200
    with pytest.raises(ValueError, match="needs a token"):
        make_app(tmp_path, names=(), token=None)
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.org")


def test_a_server_makes_a_token_where_one_is_needed(tmp_path):
    from dashboard.server import serve

    local, open_ = serve(tmp_path, port=0), serve(tmp_path, "0.0.0.0", 0)
    try:
        assert local.token is None
        assert len(open_.token) >= 20
        with pytest.raises(SpecError, match="cannot be used"):
            serve(tmp_path, port=int(local.url.rpartition(":")[2]))
    finally:
        local.server.close()
        open_.server.close()


def test_a_look_at_the_work_for_a_question_that_moved_answers_the_question_of_today(tmp_path, monkeypatch):
    from dashboard.jobs import Jobs

    monkeypatch.setattr(Jobs, "wake", lambda self: None)  # nobody works here
    monkeypatch.setattr("dashboard.points._read_grid", lambda *_: ("", {}))  # nothing is kept ready: every question is work
    app = make_app(tmp_path)
    client, jobs = app.server.test_client(), RunFolder(tmp_path).jobs
    callback = next(one for one in client.get("/_dash-dependencies").json if one["output"].startswith("..compare-answer."))
    outputs = [dict(zip(("id", "property"), part.rsplit(".", 1), strict=True)) for part in callback["output"][2:-2].split("...")]

    def ask(trigger, last, **moved):
        values = {f"compare-{control.name}": control.default for control in compare_page.CONTROLS}
        values |= {f"compare-{name}": value for name, value in moved.items()} | {"compare-job": last}
        given = [[{**one, "value": values.get(one["id"])} for one in callback[part]] for part in ("inputs", "state")]
        body = {"output": callback["output"], "outputs": outputs, "changedPropIds": [trigger]}
        answer = client.post("/_dash-update-component", json=body | {"inputs": given[0], "state": given[1]}).json["response"]
        return answer["compare-job"]["data"], answer["compare-status"]["children"]

    first, _ = ask("compare-batch.value", None)
    second, status = ask("compare-tick.n_intervals", first, batch=8)
    assert second["job"] != first["job"]
    assert "Cancelled" not in shown(status)
    assert [(jobs.folder / one["job"] / "cancel").exists() for one in (first, second)] == [True, False]
    third, _ = ask("compare-prices.value", second, batch=8, prices="build")  # the same numbers are wanted
    assert third["job"] == second["job"]
    assert not (jobs.folder / third["job"] / "cancel").exists()


def test_large_requests_are_refused(tmp_path):
    client = make_app(tmp_path).server.test_client()
    answer = client.post("/_dash-update-component", data=b'"' + b"x" * (9 << 20) + b'"', content_type="application/json")
    assert answer.status_code == 413


def test_files_of_libraries_are_compressed_and_nothing_is_asked_of_other_machines(tmp_path):
    client = make_app(tmp_path).server.test_client()
    text = client.get("/").text
    assert '<html lang="en">' in text
    for mark in ('src="http', 'href="http', 'src="//', 'href="//', "@import"):
        assert mark not in text
    scripts = re.findall(r'src="(/_dash-component-suites/[^"]+\.js[^"]*)"', text)
    assert len(scripts) > 3
    for script in scripts:
        assert client.get(script, headers={"Accept-Encoding": "gzip"}).headers.get("Content-Encoding") == "gzip", script
    assets = Path(dashboard.__file__).parent / "assets"
    styles = [path.read_text() for path in assets.glob("*.css")]
    assert styles
    assert not [style for style in styles if "http" in style or "url(" in style]


def test_claims_have_the_verdicts_that_came_with_the_package_and_say_so(tmp_path, monkeypatch):
    """Until this version has simulated them; a row that is judged otherwise than then has none."""
    from dataclasses import replace

    from dashboard.pages import claims as claims_page
    from validation import store as kept_rows
    from validation.claims import read_claims

    monkeypatch.chdir(tmp_path)
    rows = claims_page.rows_of(None)
    known = [row for row in rows if row["verdict"] != "not run yet"]
    assert len(known) > 0.9 * len(rows)
    assert {row["of"] for row in known} <= {"this version", "an earlier one"}
    claim = read_claims()[0]
    _, is_of_today = kept_rows.kept(claim, "another version")
    assert not is_of_today
    assert kept_rows.kept(replace(claim, kind="another"), "another version") is None
    done = claims_page.rows_of({"rows": [{"id": claim.id, "simulated": 1.5, "ratio": 2.0, "verdict": "contradicted: why"}]})
    assert (done[0]["simulated"], done[0]["verdict"], done[0]["of"]) == ("1.5", "contradicted", "this version")


def test_every_number_of_a_tile_says_what_it_means(tmp_path):
    from test_dashboard_browser import made_up

    from dashboard.compared import WORDS, Compared
    from dashboard.points import Points
    from dcsim.study.side_by_side import ITERATION, SERVED, Cell, Question

    values, _ = read_state(compare_page.CONTROLS, {"chips": "64"})
    points = Points(tmp_path / ".dashboard" / "points")
    for network in values["networks"]:
        points.keep(one := Cell(ITERATION, Question(chips=64), network), made_up(one))
        library = "" if network == "scheduled" else values["library"]
        points.keep(one := Cell(SERVED, Question(chips=64), network, library), made_up(one))
    with make_app(tmp_path).server.app_context():
        tiles = Compared(values, RunFolder(tmp_path)).view()[1]
    assert len(tiles) == len(values["networks"])
    for tile in tiles:
        marks = [mark for mark in parts(tile, "Button") if mark.children == "?"]
        assert len(marks) == 1 + len(parts(tile, "Dt"))
        assert all(WORDS[mark.to_plotly_json()["props"]["aria-label"].partition(":")[0]] in shown(mark) for mark in marks)


def test_where_nothing_can_be_served_each_reason_stands_once_with_links_to_what_can(tmp_path):
    from dashboard.compared import Compared
    from dashboard.points import Points
    from dcsim.study.side_by_side import ITERATION, Cell, Question

    values, _ = read_state(compare_page.CONTROLS, {"chips": "64"})
    points = Points(tmp_path / ".dashboard" / "points")
    for network in values["networks"]:
        points.keep(Cell(ITERATION, Question(chips=64), network), {"reason": f"too large <b>for {network[:3]}</b>"})
    points.keep(Cell(ITERATION, Question(chips=64), "roce-400g"), {"reason": "too large <b>for sch</b>"})
    with make_app(tmp_path).server.app_context():
        said = shown(Compared(values, RunFolder(tmp_path)).view()[0])
    assert said.count("scheduled, roce-400g: too large") == 1
    assert "llama-3-8b on 64 chips" in said  # of the grid
    assert "llama-2-70b on 512 chips" in said
    link = re.search(r'"href": "(/\?chips=64[^"]*llm=llama-3-8b[^"]*)"', said).group(1)
    from urllib.parse import parse_qsl, urlsplit

    again, notices = read_state(compare_page.CONTROLS, dict(parse_qsl(urlsplit(link).query)))
    assert (again, notices) == (values | {"llm": "llama-3-8b"}, [])
