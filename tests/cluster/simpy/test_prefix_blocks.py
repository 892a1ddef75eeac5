"""Blocks of prompts in KV: who finds them, what room they take, which go first, and routing by them."""

import json
import random
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest

from dcsim.cluster.request import Request
from dcsim.cluster.simpy.kv import KvRoom
from dcsim.errors import WorkloadError
from dcsim.llm.kv import room_of_tokens
from dcsim.policies.routers import Router
from dcsim.spec.load import load
from dcsim.spec.workload import TraceSpec
from dcsim.workload.requests import plain
from dcsim.workload.traces import read_trace

BLOCK = 10


def kv(capacity, reuse=True):
    return KvRoom(room_of_tokens(capacity), lambda: reuse)


def asking(index, prompt, blocks, output=5):
    return Request(index, 0, prompt, output, blocks=tuple(blocks), block_tokens=BLOCK)


def serve(room, request):
    """A request from its admission to its end; returns the tokens that it found."""
    room.take(request, request.prompt + request.output)
    request.given = request.output
    room.give_back(request)
    return request.reused


def test_a_prompt_finds_the_whole_blocks_it_begins_with_and_reads_one_token_at_least():
    room = kv(1000)
    assert serve(room, asking(0, 45, (1, 2, 3, 4, 5))) == 0
    assert serve(room, asking(1, 45, (1, 2, 3, 4, 5))) == 40, "the fifth block is not whole"
    assert serve(room, asking(2, 30, (1, 2, 9))) == 20
    assert serve(room, asking(3, 30, (1, 2, 3))) == 29
    assert serve(room, asking(4, 30, (7, 2, 3))) == 0, "blocks without the ones before them are of no use"


def test_nothing_is_found_where_nothing_is_kept():
    room = kv(1000, reuse=False)
    assert [serve(room, asking(i, 40, (1, 2, 3, 4))) for i in range(2)] == [0, 0]
    assert room.kept_total == room.used == 0


def test_one_after_another_find_what_a_list_of_blocks_by_last_use_would_hold():
    rng = random.Random(3)
    capacity, room, reference = 300, kv(300), OrderedDict()
    for index in range(400):
        chain, tokens = [rng.randrange(4)], rng.randrange(15, 120)
        while len(chain) < -(-tokens // BLOCK):
            chain.append(chain[-1] * 4 + rng.randrange(2) + 4)
        whole = chain[: tokens // BLOCK]
        found = next((i for i, block in enumerate(whole) if block not in reference), len(whole))
        assert serve(room, asking(index, tokens, chain)) == min(found * BLOCK, tokens - 1)
        # While it is served what it found stays, and the rest of its tokens take room.
        own = tokens + 5 - found * BLOCK
        others = [block for block in reference if block not in whole[:found]]
        while own + BLOCK * (found + len(others)) > capacity:
            del reference[others.pop(0)]
        for block in reversed(whole):
            reference.pop(block, None)
            reference[block] = None
        while BLOCK * len(reference) > capacity:
            reference.popitem(last=False)
        assert room.kept_total == BLOCK * len(reference)


def test_shared_blocks_take_their_room_once_and_all_room_is_free_or_kept_at_the_end():
    rng = random.Random(5)
    room, running = kv(500), []
    serve(room, asking(0, 100, range(10)))
    first, second = asking(1, 100, range(10)), asking(2, 100, range(10))
    room.take(first, 105)
    room.take(second, 105)
    assert room.used == 100 + 2 * 5, "the prompt once, and two answers"
    assert room.kept_total == 0
    room.let_grow(first)  # what it stores is counted elsewhere from now on, the shared blocks here
    assert room.used == 100 + 5 - 100
    for request in (first, second):
        room.give_back(request)
    for index in range(3, 300):
        if running and rng.random() < 0.5:
            room.give_back(running.pop(rng.randrange(len(running))), keep=rng.random() < 0.8)
        request = asking(index, rng.randrange(11, 90), [rng.randrange(2) + 2 * depth + 100 for depth in range(9)])
        if room.fits(request.prompt + request.output):
            room.take(request, request.prompt + request.output)
            running.append(request)
            if rng.random() < 0.3:
                room.let_grow(request)
        assert room.kept_total == BLOCK * room.blocks.free
        assert room.used + room.kept_total <= room.capacity
    for request in running:
        room.give_back(request)
    assert room.used == 0
    room.clear()
    assert (room.kept_total, len(room.blocks), room.used) == (0, 0, 0)


def test_a_router_by_prefix_weighs_what_is_found_against_who_waits():
    found = {0: 0, 1: 80, 2: 90}
    router = Router("prefix", 3, lambda replica, request: found[replica])
    request = Request(0, 0, 100, 5)
    assert router.choose(request) == 2
    router.change(2, 1)
    assert router.choose(request) == 1
    router.change(1, 1)
    assert router.choose(request) == 0, "a hundred tokens to read are sooner than one that waits and ten more"
    router.set_down(0, True)
    assert router.choose(request) == 2


def trace(folder, rows):
    file = folder / "prefixes.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_trace_has_its_blocks_where_they_are_asked_for(tmp_path):
    row = {"timestamp": 0, "input_length": 700, "output_length": 3, "hash_ids": [4, 5]}
    file = trace(tmp_path, [{**row, "timestamp": 3000}, {**row, "hash_ids": [4]}])
    spec = TraceSpec(file=str(file), prefix_block_tokens=512, unsorted="sort")
    assert read_trace(file, spec, with_blocks=True).blocks.tolist() == [(4,), (4, 5)]
    assert read_trace(file, spec).blocks is None
    with pytest.raises(WorkloadError, match="row 1: column 'hash_ids': 'many' is not a list of whole numbers"):
        read_trace(trace(tmp_path, [{**row, "hash_ids": "many"}]), spec, with_blocks=True)


def test_conversations_find_their_beginnings_and_more_of_them_by_the_prefix_router(serve_small):
    turns, chats = 3, 12
    ids = [(0, *(1 + 100 * chat + k for k in range(4 * (turn + 1) - 1))) for turn in range(turns) for chat in range(chats)]
    at_s = np.array([40.0 * turn + 2.0 * chat + 0.1 * (chat % 3) for turn in range(turns) for chat in range(chats)])
    prompts = np.repeat(np.array([40, 80, 120], np.int32), chats)
    column = np.empty(len(ids), object)
    column[:] = ids
    requests = replace(plain(at_s, prompts, np.full(len(ids), 4, np.int32)), blocks=column, block_tokens=BLOCK)
    found = {}
    for router in ("round_robin", "prefix"):
        rows = serve_small(requests, replicas=2, settings=[f"serving.router={router}"], engine="simpy").tables["requests"]
        assert set(rows["status"]) == {"finished"}
        found[router] = int(rows["reused_tokens"].sum())
    # The first turn finds the block that all begin with, but for the very first; later turns all that was read before.
    most = (chats - 1) * BLOCK + chats * (40 + 80)
    assert 0 < found["round_robin"] < found["prefix"] <= most
    assert serve_small(requests, engine="simpy").tables["requests"]["reused_tokens"].sum() == most, "one replica has it all"


def test_the_compiled_copy_refuses_blocks():
    from dcsim.cluster.fast.knows import unknown

    spec = load("1rack", workload="conversations").spec
    asked = {"drawn": False, "rounds": False, "chips": False}
    assert unknown(spec, replicas=1, **asked) == ["workload.trace.prefix_block_tokens"]
    assert unknown(load("1rack", workload="chat").spec, replicas=1, **asked) == []
