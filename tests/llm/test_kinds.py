"""What programs do, against arithmetic on the figures of layers: every kind, every family, on one chip and cut in two."""

import pytest
from families import KNOWN, Known
from test_program import GPU, operations

from dcsim.llm.architecture import active_parameter_count, degree_max, kv_bytes, layer_names, parameters
from dcsim.llm.mapping import lay
from dcsim.llm.program import Program, Shape, build_program
from dcsim.spec.huggingface import llm_from_config
from dcsim.spec.layers import FullAttention
from dcsim.spec.llm import LlmSpec
from dcsim.spec.mapping import MappingSpec

ROOMY = GPU.model_copy(update={"memory_bytes": 1e14})


def read(known: Known) -> LlmSpec:
    return LlmSpec.model_validate(llm_from_config(known.config))


def program_of(llm: LlmSpec, shape: Shape, tp: int = 1) -> Program:
    return build_program(llm, lay(llm, ROOMY, MappingSpec(), tp, 1, [list(range(tp))]), ROOMY, shape)


def flop(program: Program) -> int:
    return sum(sum(op.flop) for op in operations(program) if op.part != "vector")


def looked_at(llm: LlmSpec, context: int) -> float:
    """FLOPs beside the weights of one token at `context`, by the textbook, layer by layer."""
    total = 0.0
    for names, _ in layer_names(llm):
        for name in names:
            plain = FullAttention(kind="full", heads=llm.heads or 1, kv_heads=llm.kv_heads or 1, d_head=llm.d_head or 1)
            section = llm.attention.get(name, plain)
            total += _BY_KIND[section.kind](section, context)
    return total


def softmax(seen):
    """A query meets each key it sees, and the weights each value: a multiplication and an addition for each element."""
    return lambda s, c: 2 * s.heads * (s.d_head + (s.d_value or s.d_head)) * seen(s, c)


def latent(s, c):
    """Queries look at the latent vectors themselves: width kv_rank + d_rope for scores, kv_rank for sums."""
    index = s.index
    seen = min(c, index.tokens) if index else min(c, s.window or c)
    scores = 2 * index.heads * index.d_head * c if index and not index.shared and c > index.tokens else 0
    return 2 * s.heads * (2 * s.kv_rank + s.d_rope) * seen + scores


def compressed(s, c):
    """A window of keys that are their own values, and beyond it an entry for every `ratio` tokens, all or the best."""
    entries = c // s.ratio if s.ratio else 0
    picked = min(entries, s.index.tokens) if s.index else entries
    scores = 2 * s.index.heads * s.index.d_head * entries if s.index and entries > s.index.tokens else 0
    return 2 * s.heads * 2 * s.d_head * (min(c, s.window) + picked) + scores


_BY_KIND = {
    "compressed": compressed,
    "full": softmax(lambda _, c: c),
    "windowed": softmax(lambda s, c: min(c, s.window)),
    "chunked": softmax(lambda s, c: min(c, s.chunk)),
    "latent": latent,
    "delta": lambda s, _: 3 * 2 * s.value_heads * s.d_key * s.d_value,  # recall, change, read
    "lightning": lambda s, _: 2 * 2 * s.heads * s.d_head**2,  # change, read
    "mamba2": lambda s, _: 2 * 2 * s.heads * s.d_head * s.d_state,
    "mamba": lambda s, _: 2 * 2 * s.d_inner * s.d_state,
    "convolution": lambda _, __: 0,
    "linear": lambda _, __: 0,
}


@pytest.mark.parametrize("context", [1000, 100_000])
@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_decoded_token_takes_two_operations_a_weight_it_meets_and_what_it_looks_at(name: str, context: int) -> None:
    llm = read(KNOWN[name])
    counted = parameters(llm)
    # Tables are looked up, unless one is the head as well; vectors and positions are no products (under 3 %).
    tables = llm.layers * llm.d_layer_input * (llm.vocab_layer_input or llm.vocab)
    weights = counted.active - tables - (0 if llm.tied_embeddings else counted.embedding)
    expected = 2 * weights + looked_at(llm, context)
    assert flop(program_of(llm, Shape(1, context))) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_two_chips_do_the_work_of_one(name: str) -> None:
    """And a little more: latent vectors, routers and shared key/value heads are made on both."""
    llm = read(KNOWN[name])
    if degree_max(llm) < 2:
        return
    alone, both = (flop(program_of(llm, Shape(4, 2000), tp)) for tp in (1, 2))
    assert alone <= both <= 1.15 * alone


@pytest.mark.parametrize("context", [100, 50_000])
@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_decoded_token_reads_what_its_sequence_keeps(name: str, context: int) -> None:
    """Attention reads all that is kept, once; an indexer's picks are fewer, states are read and written."""
    llm = read(KNOWN[name])
    kinds = {section.kind for section in llm.attention.values()} or {"full"}
    picky = any(getattr(section, "index", None) or getattr(section, "keys", "own") != "own" for section in llm.attention.values())
    moved = sum(sum(op.kv_bytes) for op in operations(program_of(llm, Shape(1, context))))
    kept = kv_bytes(llm, context, "fp16")
    if kinds <= {"full", "windowed", "chunked", "latent"} and not picky:
        assert moved == kept
    elif not picky and kinds & {"full", "windowed", "latent"} and context > 10_000:
        assert moved == pytest.approx(kept, rel=0.6)
    else:
        assert moved > 0 or kinds <= {"mamba", "mamba2", "convolution"}


def test_experts_of_a_gpu_work_on_the_tokens_that_come_to_them() -> None:
    """Half as many experts as wide twice do the same work; only the weights that are read differ, once for each visited."""
    config = {**KNOWN["Mistral-7B-v0.1"].config, "model_type": "mixtral", "intermediate_size": 7168, "sliding_window": None}
    few = {**config, "num_local_experts": 2, "num_experts_per_tok": 2}
    many = {**config, "num_local_experts": 64, "num_experts_per_tok": 2}
    shape = Shape(1, 4096, 4096)
    work = [program_of(LlmSpec.model_validate(llm_from_config(one)), shape) for one in (few, many)]
    router = 2 * 4096 * 32 * 4096 * 62
    assert flop(work[1]) - flop(work[0]) == router
    weights = [sum(sum(op.weight_bytes) for op in operations(one)) for one in work]
    assert weights[1] - weights[0] == 32 * 62 * (3 * 4096 * 7168 + 4096)  # a byte each


@pytest.mark.parametrize("rows", [1, 4, 16, 64, 512])
def test_as_many_experts_are_read_as_rows_may_be_expected_to_visit(rows: int) -> None:
    """Of 64 with 6 for each row: 64 (1 - (1 - 6/64)^rows); the weights of each are read once."""
    llm = read(KNOWN["ERNIE-4.5-21B-A3B"])
    (routed,) = (section for section in llm.feed_forward.values() if section.kind == "routed")
    expected = routed.experts * (1 - (1 - routed.experts_active / routed.experts) ** rows)
    layers = llm.layers - 1
    read_bytes = sum(op.weight_bytes[0] for op in operations(program_of(llm, Shape(rows, 100))) if op.name == "up")
    beside = 2 * llm.d_model * (llm.feed_forward["dense"].d_ff + layers * routed.shared_d_ff)
    assert (read_bytes - beside) / (2 * llm.d_model * routed.d_ff * layers) == pytest.approx(expected, abs=0.5)


def test_a_static_program_has_a_slot_for_every_row_of_each_expert(catalog) -> None:
    """A schedule is fixed before routing is known."""
    llm = catalog.llm("mixtral-8x7b")
    program = build_program(llm, lay(llm, catalog.lpu(), MappingSpec(), 8, 64, catalog.nodes(512)), catalog.lpu(), Shape(16, 512))
    done = sum(sum(op.flop) for op in operations(program) if op.part == "matrix")
    assert done > 1.5 * 16 * 2 * active_parameter_count(llm)
