"""Good files resolve; bad ones say where, what and how to mend, all at once."""

from pathlib import Path

import pytest

from dcsim.errors import SpecError
from dcsim.spec import yaml
from dcsim.spec.document import parse_document
from dcsim.spec.load import load
from dcsim.spec.unused import unused

GOOD = """\
name: small
chip: lpu-v1
node: lpu-node
host: epyc-7313x2
network: scheduled
fabric:
  kind: lpu_dragonfly
  nodes: 1
llm: llama-2-7b
workload: chat
"""


def write(tmp_path, text):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    return path


def problems_of(tmp_path, text, **options):
    with pytest.raises(SpecError) as caught:
        load(write(tmp_path, text), **options)
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file_resolves_with_provenance(tmp_path):
    resolved = load(write(tmp_path, GOOD))
    assert resolved.spec.chip.clock_hz == 900e6
    assert resolved.spec.llm.layers == 32
    figure = resolved.figures[("chip", "clock")]
    assert figure.kind == "spec"
    assert "ISCA" in figure.source


def test_a_bare_name_and_a_path_are_the_same():
    assert load("8rack").spec == load("topologies/8rack.yaml").spec


def test_what_has_no_name_is_called_by_its_file(tmp_path):
    path = tmp_path / "mine.yaml"
    text = Path("topologies/node.yaml").read_text().replace("name: node\n", "") + "power: {pue: 1.1}\n"
    path.write_text(text.replace("network: scheduled", f"network: {tmp_path}/wires.yaml"))
    lines = Path("topologies/networks/scheduled.yaml").read_text().splitlines()
    (tmp_path / "wires.yaml").write_text("\n".join(line for line in lines if not line.startswith("name:")))
    spec = load(path).spec
    assert (spec.name, spec.network.name, spec.power.name) == ("mine", "wires", "hall (assumed)")
    llm = "llm: {d_model: 64, heads: 1, kv_heads: 1, d_head: 64, d_ff: 64, vocab: 9, activation: gelu, layers: 8}"
    path.write_text(text.replace("llm: bert-large", llm))
    assert load(path).spec.llm.name == "mine's own"


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("  nodes: 1", "  nodez: 1", 8, "did you mean 'nodes'?"),
        ("  nodes: 1", "  nodes: -1", 8, "fabric.nodes"),
        ("chip: lpu-v1", "chip: lpu-v9", 2, "did you mean lpu-v1"),
        ("chip: lpu-v1", "chip: {base: lpu-v1, clock: 900}", 2, "needs a unit, for example '900 MHz'"),
        ("chip: lpu-v1", "chip: {base: lpu-v1, clock: 3 GB}", 2, "'GB' is a unit of data"),
        ("chip: lpu-v1", "chip: {base: lpu-v1, clok: 3 GHz}", 2, "did you mean 'clock'?"),
        ("  kind: lpu_dragonfly", "  kind: dragonflyy", 6, "unknown kind"),
        ("name: small", "nmae: small", 1, "did you mean 'name'?"),
        ("llm: llama-2-7b", "llm: llama-2-7c", 9, "did you mean llama-2-7b"),
    ],
)
def test_a_mistake_is_placed_and_named(tmp_path, old, new, line, what):
    problems = problems_of(tmp_path, GOOD.replace(old, new))
    assert any(f"t.yaml:{line}:" in p and what in p for p in problems), problems


def test_all_errors_come_at_once_in_file_order(tmp_path):
    text = GOOD.replace("nodes: 1", "nodes: -1").replace("lpu-v1", "lpu-v9") + "slo:\n  ttft: 300\n"
    problems = problems_of(tmp_path, text)
    assert [p.split("t.yaml:")[1].split(":")[0] for p in problems] == ["2", "8", "12"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (GOOD + "chip: lpu-v1\n", 'duplicate key "chip"'),
        ("a: [1, 2", "not YAML"),
        ("- 1\n", "top level must be a mapping"),
        ("", "top level must be a mapping"),
    ],
)
def test_a_file_that_is_no_spec(tmp_path, text, what):
    assert what in problems_of(tmp_path, text)[0]


def test_settings_win_and_are_checked(tmp_path):
    path = write(tmp_path, GOOD)
    assert load(path, settings=["chip.clock=1 GHz", "mapping.tp=4"]).spec.mapping.tp == 4
    for setting, what in (
        ("mapping.tpp=4", "did you mean 'tp'?"),
        ("mapping.tp", "dotted.key=value"),
        ("chip.clock=1", "needs a unit"),
        ("mapping.tp=many", "mapping.tp"),
        ("chip=3", "section"),
    ):
        with pytest.raises(SpecError, match=what) as caught:
            load(path, settings=[setting])
        assert f"--set {setting}" in str(caught.value)


def test_the_base_of_a_section_is_set_by_naming_the_section():
    with pytest.raises(SpecError, match="--set network=roce-400g"):
        load("h100x16", settings=["network.base=roce-400g"])


def test_a_set_figure_loses_its_old_source(tmp_path):
    resolved = load(write(tmp_path, GOOD), settings=["chip.clock=1 GHz"])
    assert ("chip", "clock") not in resolved.figures
    assert resolved.places[("chip", "clock")].startswith("--set")


def test_a_figure_needs_kind_and_source():
    with pytest.raises(SpecError, match=r"figure kind None.*\n.*needs a source"):
        parse_document("clock: {value: 3}", "f.yaml")


def test_unread_keys_are_tracked_not_listed(tmp_path):
    resolved = load(write(tmp_path, GOOD + "slo:\n  ttft: 2 s\n"), settings=["power.pue=1.2"])
    assert {"slo", "power.pue"} <= set(unused(resolved))
    assert resolved.spec.slo.ttft_s == 2
    assert resolved.spec.power.pue == 1.2
    assert not {"slo", "slo.ttft", "power.pue"} & set(unused(resolved))


def test_a_setting_may_start_at_an_inner_section_of_one_name(tmp_path):
    spec = load(write(tmp_path, GOOD), settings=["clock.drift=50 ppm"]).spec
    assert spec.network.clock.drift == pytest.approx(50e-6)
    with pytest.raises(SpecError, match=r"clocks: unknown key"):
        load(write(tmp_path, GOOD), settings=["clocks.drift=50 ppm"])


def test_a_section_of_a_base_alone_is_that_entry(tmp_path):
    path = write(tmp_path, GOOD.replace("chip: lpu-v1", "chip: {base: lpu-v1}"))
    assert load(path).spec.chip == load("node").spec.chip


def test_a_text_is_parsed_once_in_a_process_and_an_edit_is_seen(tmp_path, monkeypatch):
    parsed, read = [], yaml.read
    monkeypatch.setattr(yaml, "read", lambda text: parsed.append(text) or read(text))
    path = write(tmp_path, GOOD)
    assert load(path, settings=["chip.clock=1 GHz"]).spec.chip.clock_hz == 1e9
    first = len(parsed)
    assert GOOD in parsed
    assert load(path).spec.chip.clock_hz == 900e6  # what was set above is not in what is remembered
    assert len(parsed) == first
    write(tmp_path, GOOD.replace("nodes: 1", "nodes: 2"))
    assert load(path).spec.fabric.nodes == 2
    assert len(parsed) == first + 1


def test_a_list_with_a_wrong_entry_is_not_called_too_short(tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text(Path("workloads/day.yaml").read_text().replace("[0.55, 0.45", "[-1, 0.45"))
    with pytest.raises(SpecError) as caught:
        load("64chip", workload=str(path))
    assert [problem.what.split(":")[0] for problem in caught.value.problems] == ["workload.arrivals.rate.hours.0"]
    path.write_text(Path("workloads/day.yaml").read_text().replace("[0.55, 0.45", "[1, 1, 0.45"))
    with pytest.raises(SpecError, match="needs 24 entries, has 25"):
        load("64chip", workload=str(path))
