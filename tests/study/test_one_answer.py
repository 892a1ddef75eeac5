"""I9: every command that names a watt or a dollar of the same cluster at the same load names the same one."""

import json
from pathlib import Path

import pytest
from command import dcsim

from validation.one_answer import BLOCK, COLUMNS, CONTEXT, SYSTEMS, answers, served, table

DESIGN = Path(__file__).resolve().parents[2] / "docs/DESIGN.md"
SLOW = {"h100x16", "tpu-v4-64"}
CASES = [pytest.param(system, id=system.name, marks=[pytest.mark.slow] * (system.name in SLOW)) for system in SYSTEMS]


@pytest.mark.parametrize("system", CASES)
def test_i9_all_commands_name_the_same_watts_dollars_racks_adapters_and_cables(system):
    said = answers(system)
    for column in COLUMNS:
        named = {command: row[column] for command, row in said.items() if column in row}
        assert len(named) > 1, f"only {named} name {column}"
        middle = sum(named.values()) / len(named)
        assert named == pytest.approx(dict.fromkeys(named, middle), rel=1e-3), column
    assert said["power"]["site_w"] == pytest.approx(1.3 * said["power"]["it_w"])
    assert table(system, said) in BLOCK.search(DESIGN.read_text(encoding="utf-8"))[2], "run `make docs`"


def test_the_command_line_says_the_same(tmp_path):
    system = SYSTEMS[0]
    settings = [word for text in system.settings for word in ("--set", text)]

    def asked(*words):
        code, out, err = dcsim(*words, "--json", cwd=tmp_path)
        assert code == 0, err
        return json.loads(out)

    power = asked("power", system.topology, *settings, "--context", str(CONTEXT))
    load = [word for text in served(power["micro_batches_full"]) for word in ("--set", text)]
    run = asked("run", system.topology, "--workload", "speech", *settings, *load, "--out", "one")
    assert run["it_power_w_mean"] == pytest.approx(power["loads"][-1]["it_power_w"], rel=1e-3)
    assert run["power_entry"] == power["power_entry"] == "hall (assumed)"
    cost, topology = asked("cost", "one"), asked("topology", system.topology, *settings)
    assert cost["parts"] == topology["parts"]
    assert cost["power_w_mean"] == run["power_w_mean"]
