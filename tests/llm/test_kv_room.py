"""Room for what sequences keep: never more of them than every chip has bytes for, and as many as the tightest one has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsim.llm.kv import SequenceRoom, room_of_tokens
from dcsim.llm.mapping import lay
from dcsim.llm.storage import EACH_TOKEN, Growth
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import MappingSpec

CONTEXT_MAX = 5000

growths = st.one_of(
    st.just(EACH_TOKEN),
    st.builds(Growth, tokens_max=st.integers(1, 2 * CONTEXT_MAX)),
    st.builds(Growth, stride=st.integers(2, 200)),
    st.builds(Growth, always=st.integers(1, 8)),
)
sizes = st.one_of(st.just(0), st.integers(1, 10**7), st.floats(0.5, 1e5))


@st.composite
def rooms(draw):
    kinds = tuple(dict.fromkeys(draw(st.lists(growths, min_size=1, max_size=4))))
    chips = draw(st.lists(st.tuples(*[sizes] * len(kinds)), min_size=1, max_size=5))
    free = draw(st.lists(st.integers(10**6, 10**12), min_size=len(chips), max_size=len(chips)))
    return SequenceRoom(kinds, tuple(chips), tuple(free), CONTEXT_MAX)


@given(room=rooms(), contexts=st.lists(st.integers(1, CONTEXT_MAX), min_size=1, max_size=30))
def test_sequences_whose_costs_fit_fit_on_every_chip(room, contexts):
    """To the byte of rounding that each sequence may bring on chips that are not the tightest."""
    taken, held = 0, np.zeros(len(room.free_bytes), np.int64)
    for context in contexts:
        if taken + room.cost(context) <= room.capacity:
            taken += room.cost(context)
            held += room.chip_bytes(context)
    assert (held <= np.array(room.free_bytes) + len(contexts)).all()


@given(room=rooms())
def test_the_table_of_costs_is_the_cost_of_each_context(room):
    table = room.costs(CONTEXT_MAX)
    assert table[0] == room.cost(0) == 0
    for context in (*range(1, 40), 199, 200, 201, CONTEXT_MAX - 1, CONTEXT_MAX):
        assert table[context] == room.cost(context)
    assert (np.diff(table) >= 0).all()


@given(room=rooms())
def test_at_full_context_as_many_sequences_fit_as_the_tightest_chip_has_bytes_for(room):
    each = room.chip_bytes(CONTEXT_MAX)
    if any(each):
        most = min(free // size for free, size in zip(room.free_bytes, each, strict=True) if size)
        assert abs(room.sequences_max(CONTEXT_MAX) - most) <= (0 if not room.by_tokens else most / CONTEXT_MAX + 1)


def test_room_of_tokens_is_what_it_says():
    room = room_of_tokens(1000)
    assert (room.capacity, room.cost(300), room.sequences_max(300), room.tokens(300), room.unit) == (1000, 300, 3, 1000, "tokens")


@pytest.mark.parametrize(("context", "more"), [(1024, 1.0), (4096, 1.0), (8192, 2.0), (32768, 8.0)])
def test_a_window_holds_more_sequences_the_longer_they_are(catalog, context, more):
    """All layers of the windowed one see 4,096 tokens; beside that both are the same."""
    full = catalog.llm("llama-3-8b", context_max=32768)
    plain = {"heads": full.heads, "kv_heads": full.kv_heads, "d_head": full.d_head}
    windowed = LlmSpec.model_validate(
        {
            **{key: getattr(full, key) for key in ("layers", "d_model", "vocab", "context_max")},
            "attention": {"window": {"kind": "windowed", "window": 4096, **plain}},
            "feed_forward": {"dense": {"kind": "dense", "d_ff": full.d_ff, "activation": full.activation}},
            "pattern": [{"attention": "window", "feed_forward": "dense"}],
        }
    )
    rooms = [lay(llm, catalog.lpu(), MappingSpec(), 8, 16, catalog.nodes(128)).memory.room for llm in (full, windowed)]
    fit = [room.sequences_max(context) for room in rooms]
    assert fit[1] / fit[0] == pytest.approx(more, rel=0.1)
