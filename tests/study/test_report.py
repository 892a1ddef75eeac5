"""A report is one file that needs no other, and says what its numbers are."""

import json
import re

import pytest
from command import dcsim as command

SMALL = ("64chip", "--workload", "glimpse", "--set", "mapping.tp=8", "--set", "mapping.pp=8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run, and the JSON of a sweep and a compare."""
    folder = tmp_path_factory.mktemp("report")
    assert command("run", *SMALL, "--out", "runs/one", cwd=folder)[0] == 0
    words = ("sweep", "64chip", "--context", "256", "--set-range", "mapping.all_reduce=direct,ring", "--json")
    (folder / "sweep.json").write_text(command(*words, cwd=folder)[1])
    (folder / "compare.json").write_text(
        command("compare", "64chip", "--context", "256", "--interconnect", "scheduled", "--json", cwd=folder)[1]
    )
    return folder


def test_one_file_with_figures_tables_sources_and_commands(place):
    code, out, err = command("report", "runs/one", "sweep.json", "compare.json", "--out", "r.html", "--json", cwd=place)
    assert code == 0, err
    assert json.loads(out)["written"] == "r.html"
    page = (place / "r.html").read_text()
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page), "another file is needed"
    assert page.count("plotly-graph-div") >= 6
    summary = json.loads((place / "runs/one/summary.json").read_text())
    for text in (summary["digest"], "ttft_s_p99", "mapping.all_reduce", "dcsim report runs/one", "dcsim sweep 64chip", "assumed"):
        assert text in page, text


@pytest.mark.parametrize("name", ["nosuch", "runs", "r.txt"])
def test_what_is_no_answer_is_refused(place, name):
    (place / "r.txt").write_text("{}")
    code, _, err = command("report", name, "--out", "none.html", cwd=place)
    assert code == 2
    assert name in err
    assert not (place / "none.html").exists()


def test_what_stands_in_an_answer_is_text_not_markup(place):
    said = json.loads((place / "sweep.json").read_text())
    said["rows"][0]["llm"] = "<script>alert(1)</script>"
    (place / "evil.json").write_text(json.dumps(said))
    assert command("report", "evil.json", "--out", "e.html", cwd=place)[0] == 0
    assert "<script>alert(1)" not in (place / "e.html").read_text()
