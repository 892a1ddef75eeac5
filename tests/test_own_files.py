"""Files that people write: templates that run, checks that name every line, schemas that take what dcsim takes."""

import json
from pathlib import Path

import pytest
from command import dcsim as command

from dcsim.spec.yaml import read
from validation.docs_pages import schema_pages

ROOT = Path(__file__).resolve().parents[1]
SCHEMA_OF = {"topologies": "topology.json", "workloads": "workload.json"}


def plain(value):
    """YAML as JSON has it."""
    return json.loads(json.dumps(value, default=str))


@pytest.mark.parametrize("name", ["topology.json", "workload.json", "sweep.json"])
def test_schemas_are_up_to_date(name):
    assert (ROOT / "schemas" / name).read_text() == schema_pages()[name], "run `make docs`"


@pytest.mark.parametrize("folder", SCHEMA_OF)
def test_editors_take_every_file_of_the_library(folder):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "schemas" / SCHEMA_OF[folder]).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    paths = sorted((ROOT / folder).glob("*.yaml"))
    assert paths
    for path in paths:
        errors = validator.iter_errors(plain(read(path.read_text())))
        wrong = [f"{path.name}: {list(error.absolute_path)}: {error.message[:200]}" for error in errors]
        assert not wrong, wrong


@pytest.mark.parametrize(
    ("section", "wrong"),
    [({"slo": {"tfft": "1 s"}}, "tfft"), ({"slo": {"ttft": "1 lightyear"}}, "lightyear"), ({"mapping": {"tp": "many"}}, "many")],
)
def test_editors_see_what_dcsim_refuses(section, wrong):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/topology.json").read_text()))
    data = plain(read((ROOT / "topologies/8rack.yaml").read_text()))
    assert not list(validator.iter_errors(data))
    assert wrong in str(list(validator.iter_errors({**data, **section})))


ASKED = [
    ("--chip", "h100", "--nodes", "16", "--network", "infiniband-ndr", "--llm", "llama-2-70b"),
    ("--chip", "lpu-v1", "--nodes", "8", "--llm", "llama-3-8b"),
    ("--chip", "h100", "--llm", "llama-3-8b"),
]


@pytest.mark.parametrize("words", ASKED, ids=lambda words: " ".join(words))
def test_a_template_is_short_runs_and_is_not_overwritten(words, tmp_path):
    code, _, err = command("init", "mine.yaml", *words, cwd=tmp_path)
    assert code == 0, err
    text = (tmp_path / "mine.yaml").read_text()
    assert len(text.splitlines()) < 40
    assert text.startswith("# yaml-language-server: $schema=file://")
    code, out, err = command("check", "mine.yaml", "--json", cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out)["ok"]
    code, out, err = command("run", "mine.yaml", "--workload", "glimpse", "--json", cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out)["requests_finished"] == 12
    code, _, err = command("init", "mine.yaml", *words, cwd=tmp_path)
    assert code == 2
    assert "is there already" in err
    assert (tmp_path / "mine.yaml").read_text() == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mine.yaml",), "--chip: is not given"),
        (("mine.yaml", "--chip", "h1000"), "did you mean"),
        (("mine.yaml", "--chip", "h100", "--llm", "llama-3.1-405b"), "needs"),
        (("folder", "--chip", "h100"), "such as mine.yaml"),
        (("mine.yaml", "--chip", "h100", "--network", "infiniband-nrd"), "did you mean"),
    ],
)
def test_a_template_that_would_not_run_is_not_written(words, said, tmp_path):
    code, _, err = command("init", *words, cwd=tmp_path)
    assert code == 2
    assert said in err
    assert not list(tmp_path.iterdir())


def test_check_names_every_mistake_with_its_line(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text((ROOT / "topologies/8rack.yaml").read_text().replace("ttft", "tfft").replace("racks: 8", "rack: 8"))
    code, out, err = command("check", "t.yaml", "--json", cwd=tmp_path)
    assert code == 2
    said = json.loads(out)
    assert not said["ok"]
    assert {problem["where"].partition(":")[0] for problem in said["problems"]} == {"t.yaml"}
    assert len(said["problems"]) >= 2
    code, out, err = command("check", "t.yaml", cwd=tmp_path)
    assert code == 2
    assert "did you mean 'ttft'?" in err
    assert command("check", "nosuch.yaml", cwd=tmp_path)[0] == 2


@pytest.mark.parametrize("file", ["topologies/64chip.yaml", "workloads/chat.yaml", "workloads/traces/azure-2023-conv.csv.gz"])
def test_what_is_shipped_is_without_a_mistake(file, tmp_path):
    code, out, err = command("check", str(ROOT / file), "--json", cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out)["problems"] == []
