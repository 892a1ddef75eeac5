"""Recursive doubling: everybody ends with the sum of all, after log2 n steps."""

import json

import pytest
from command import dcsim

from dcsim.errors import FabricError
from dcsim.network.collectives import add_collective
from dcsim.network.patterns.ranks import VectorUnit
from dcsim.network.tasks import MESSAGE, TaskBuilder

UNIT = VectorUnit(320, 214)


def made(ranks, size_bytes):
    builder = TaskBuilder(900e6)
    before = [[builder.compute(chip, 0, 1, 1, [])] for chip in range(ranks)]
    after = add_collective(builder, "all_reduce", range(ranks), size_bytes, before, UNIT, algorithm="doubling")
    return builder.build(), after


@pytest.mark.parametrize("ranks", [2, 8, 32])
def test_every_rank_hears_of_every_other(ranks):
    tasks, after = made(ranks, 6400)
    heard = []
    for t in range(len(tasks)):
        known = {t} if t < ranks else set()
        for earlier in tasks.before[tasks.before_start[t] : tasks.before_start[t + 1]]:
            known |= heard[earlier]
        heard.append(known)
    assert all(set().union(*(heard[t] for t in own)) == set(range(ranks)) for own in after)
    messages = tasks.kind == MESSAGE
    assert messages.sum() == ranks * (ranks.bit_length() - 1)
    assert set(tasks.size_bytes[messages]) == {6400}


def test_other_numbers_are_refused():
    with pytest.raises(FabricError, match="power of two of ranks, not 6"):
        made(6, 6400)


def test_a_command_times_it(tmp_path):
    code, out, err = dcsim("collective", "node", "--algorithm", "doubling", "--json", cwd=tmp_path)
    assert code == 0, err
    assert json.loads(out)["algorithm"] == "doubling"
