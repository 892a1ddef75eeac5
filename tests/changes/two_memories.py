"""A chip with a memory of its own for the KV cache: room and speed of attention follow that one, weights the other."""

import json

import pytest
from command import dcsim

from dcsim.spec.load import load
from dcsim.study.iteration import iteration, shape_of
from dcsim.study.machine import build

CHIP = """
name: two memories
description: An H100 whose keys and values lie in a memory of their own.
base: h100
kind: two_memories
kv_memory: {value: %s, kind: assumed, range: [40, 160], source: made up}
kv_memory_bandwidth: {value: %s, kind: assumed, range: [1, 7], source: made up}
"""


def timed(folder, memory="80 GB", bandwidth="3.35 TB/s", chip=None):
    (folder / "two.yaml").write_text(CHIP % (memory, bandwidth))
    machine = build(load("dgx-h100", settings=[f"chip={chip or folder / 'two.yaml'}", "network.replications=1"]).spec)
    return iteration(machine, shape_of(64, 4096, 0, machine.spec.llm)), machine.mapping.memory


def test_room_is_the_kv_memorys(tmp_path):
    (_, one), (_, two), (_, twice) = (timed(tmp_path, chip="h100"), timed(tmp_path), timed(tmp_path, "160 GB"))
    assert one.weight_bytes_max == two.weight_bytes_max
    assert two.kv_tokens > one.kv_tokens
    assert twice.kv_tokens == pytest.approx(2 * two.kv_tokens, rel=1e-3)


def test_attention_goes_by_its_bandwidth_and_nothing_else_does(tmp_path):
    (one, _), (same, _), (fast, _) = (timed(tmp_path, chip="h100"), timed(tmp_path), timed(tmp_path, bandwidth="6.7 TB/s"))
    assert same["iteration_s"] == one["iteration_s"]
    assert fast["iteration_s"] < same["iteration_s"]


def test_a_command_takes_it(tmp_path):
    timed(tmp_path)
    code, out, err = dcsim("iteration", "dgx-h100", "--set", "chip=two.yaml", "--json", cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out)["iteration_s"] > 0
