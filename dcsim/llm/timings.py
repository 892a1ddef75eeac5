"""Timings of kernels as the operations of `llm.cost`: what `topologies/operators` was distilled from, and tables of users' own.

Tables lie in folders OPERATOR/LIBRARY/VERSION, `latency` in milliseconds, as those of aiconfigurator-core do for each system.
Whole columns are taken at once: a `Work` here holds arrays where the simulator's hold numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dcsim.errors import Problem, SpecError
from dcsim.llm.cost import Work
from dcsim.llm.operators import attention_s, product_s, state_s, vector_s
from dcsim.spec.chip import RooflineChip
from dcsim.spec.operators import Kernel, OperatorsSpec

if TYPE_CHECKING:  # heavy, and wanted only where tables are read
    import pandas as pd

# Bytes of a stored and of a multiplied element by the tables' name of a format.
BYTES: dict[str, tuple[float, float]] = {
    "bfloat16": (2, 2),
    "fp8": (1, 1),
    "fp8_block": (1, 1),
    "nvfp4": (9 / 16, 9 / 16),
    "w4a16_mxfp4": (17 / 32, 2),
}
# What the same weights may be multiplied as, where a library has kernels for it.
AS_WELL = {"w4a16_mxfp4": ("w4a8_mxfp4_mxfp8",)}
STATE_CHUNK = 64  # tokens of a prompt that a state takes at once


@dataclass(frozen=True, slots=True)
class TimedKernels:
    """Rows of one table: the operations they timed, one after another, and their seconds."""

    works: tuple[Work, ...]
    seconds: Any


@dataclass(frozen=True, slots=True)
class Table:
    """A kind of kernel: the file of its timings, which format of the file is which of `Formats`, and what range is compared."""

    operator: str
    file: str
    column: str
    formats: dict[str, str]
    range: str  # what `keep` keeps, in words
    keep: Callable[[pd.DataFrame], Any]
    works: Callable[[pd.DataFrame, float, float], tuple[Work, ...]]
    time: Callable[[RooflineChip, Any, Work], Any]


def tables(folder: Path, table: Table) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Library, version and rows of every file of a kind of kernel in a system's folder."""
    import pandas as pd

    for path in sorted((folder / table.operator).glob(f"*/*/{table.file}_perf.parquet")):
        yield path.parts[-3], path.parts[-2], pd.read_parquet(path)


def measured(rows: pd.DataFrame, table: Table, name: str, most: int, seed: int = 0) -> TimedKernels | None:
    """At most so many of a table's rows of a format, drawn by `seed`; None where the table has none in the range compared."""
    rows = rows[rows[table.column].isin((name, *AS_WELL.get(name, ()))) & (rows.latency > 0)]
    rows = rows[table.keep(rows)]
    if table.operator == "moe":  # timed with several kernels, of which a library takes the fastest
        same = ["num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"]
        rows = rows[(rows[table.column] == name).groupby([rows[key] for key in same]).transform("any")]
        rows = rows.loc[rows.groupby(same).latency.idxmin()]
    if rows.empty:
        return None
    rows = rows.sample(min(most, len(rows)), random_state=seed)
    return TimedKernels(table.works(rows, *BYTES.get(name, (2, 2))), rows.latency.to_numpy(float) * 1e-3)


def predicted(chip: RooflineChip, kernel: Any, table: Table, rows: TimedKernels) -> Any:
    """Seconds of each row."""
    return sum(table.time(chip, kernel, work) for work in rows.works)


def _columns(rows: pd.DataFrame, *names: str) -> list[Any]:
    return [rows[name].to_numpy(float) for name in names]


def _product(rows: pd.DataFrame, stored: float, active: float) -> tuple[Work, ...]:
    m, n, k = _columns(rows, "m", "n", "k")
    return (Work("matrix", m, m, ((1, m, k, n),), stored, active),)


def _heads(rows: pd.DataFrame, stored: float, active: float) -> tuple[Work, ...]:
    """Products of every head with its part of the latent projection, 128 x 512, as one."""
    m, heads = _columns(rows, "num_tokens", "num_heads")
    return (Work("matrix", m, m, ((1, m, 128 * heads, 512),), stored, active),)


def _experts(rows: pd.DataFrame, stored: float, active: float) -> tuple[Work, ...]:
    """Up and down of the experts that tokens visit, evenly spread: as many as there are pairs, up to all that are held."""
    tokens, d, hidden, top, experts, tp, ep = _columns(
        rows, "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"
    )
    pairs = tokens * top / ep
    visited = np.clip(pairs, 1, experts / ep)
    gates = np.where(rows.kernel_source.str.contains("nongated"), 1, 2)
    part = hidden / tp
    each = pairs / visited
    return (
        Work("matrix", tokens, 1, ((visited, each, d, gates * part),), stored, active, kernel="experts"),
        Work("matrix", tokens, 1, ((visited, each, part, d),), stored, active, kernel="experts"),
    )


def _prompts(rows: pd.DataFrame, stored: float, active: float) -> tuple[Work, ...]:
    batch, tokens, heads, kv_heads, d = _columns(rows, "batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
    return (_prompt(batch * kv_heads, tokens * heads / kv_heads, tokens, d, d, active),)


def _latent_prompts(rows: pd.DataFrame, stored: float, active: float) -> tuple[Work, ...]:
    """Keys of 128 columns and 64 with positions, values of 128."""
    batch, tokens, heads = _columns(rows, "batch_size", "isl", "num_heads")
    return (_prompt(batch * heads, tokens, tokens, 192, 128, active),)


def _prompt(count: Any, rows: Any, tokens: Any, d_key: int, d_value: int, active: float) -> Work:
    products = ((count, rows, d_key, tokens), (count, rows, tokens, d_value))
    return Work("attention", rows, tokens, products, 2, active, seen_fraction=1 - (tokens - 1) / (2 * tokens))


def _decoding(rows: pd.DataFrame, stored: float, active: float) -> tuple[Work, ...]:
    batch, keys, heads, kv_heads, d = _columns(rows, "batch_size", "step", "num_heads", "num_key_value_heads", "head_dim")
    group = heads / kv_heads
    products = ((batch * kv_heads, group, d, keys), (batch * kv_heads, group, keys, d))
    return (Work("attention", batch, 1, products, stored, 2),)


def _latent_decoding(rows: pd.DataFrame, stored: float, active: float) -> tuple[Work, ...]:
    """A latent vector of 512 and 64 columns with positions for each key; values are part of them."""
    batch, keys, heads = _columns(rows, "batch_size", "step", "num_heads")
    products = ((batch, heads, 576, keys), (batch, heads, keys, 512))
    return (Work("attention", batch, 1, products, stored, 2, stored_products=1),)


def _states(rows: pd.DataFrame, stored: float, active: float) -> tuple[Work, ...]:
    """Recall, change and read of a 32-bit state for each value head; within chunks of a prompt each token sees those before."""
    batch, tokens, heads, k, n = _columns(rows, "batch_size", "seq_len", "num_v_heads", "head_k_dim", "head_v_dim")
    prompt = (rows.phase == "context").to_numpy()
    chunk: Any = np.where(prompt, np.minimum(tokens, STATE_CHUNK), 1)
    count = batch * heads * np.where(prompt, np.ceil(tokens / chunk), 1)
    within = ((count, chunk, k, chunk), (count, chunk, chunk, n)) if prompt.all() else ()
    chain: Any = np.where(prompt, tokens, 1)
    return (Work("attention", batch, chain, 3 * ((count, chunk, k, n),) + within, 4, 2, kernel="states", stored_products=1),)


def _vectors(rows: pd.DataFrame, stored: float, active: float) -> tuple[Work, ...]:
    """A pass that narrows 16 bits to 8: three bytes an element, as three quarters of an element read and written in 16 bits."""
    m, k = _columns(rows, "m", "k")
    return (Work("vector", m, 1, elements=0.75 * m * k),)


def _usual_heads(rows: pd.DataFrame) -> Any:
    """No window that is shorter than the context, and head widths that all libraries have kernels of their own for."""
    long = rows.isl if (rows.isl > 1).any() else rows.step
    window = rows.window_size if "window_size" in rows else 0
    return ((window == 0) | (window >= long)) & rows.head_dim.isin([64, 128, 256])


TABLES: dict[str, Table] = {
    "products": Table(
        "gemm",
        "gemm",
        "gemm_dtype",
        {"bfloat16": "bits_16", "fp8": "bits_8", "fp8_block": "bits_8", "nvfp4": "bits_4"},
        "n and k from 256",
        lambda rows: (rows.n >= 256) & (rows.k >= 256) & (rows.latency < 20),
        _product,
        product_s,
    ),
    "experts": Table(
        "moe",
        "moe",
        "moe_dtype",
        {"bfloat16": "bits_16", "fp8_block": "bits_8", "fp8": "bits_8", "nvfp4": "bits_4", "w4a16_mxfp4": "widened"},
        "32 experts or more, evenly visited, tp and ep to 8, parts from 128 columns, to 8,192 tokens",
        lambda rows: (
            (rows.distribution == "balanced")
            & (rows.moe_tp_size <= 8)
            & (rows.moe_ep_size <= 8)
            & (rows.inter_size >= 128 * rows.moe_tp_size)
            & (rows.num_experts >= 32)
            & (rows.num_tokens <= 8192)
        ),
        _experts,
        product_s,
    ),
    "prompts": Table(
        "attention",
        "context_attention",
        "attn_dtype",
        {"bfloat16": "bits_16", "fp8": "bits_8"},
        "heads of 64, 128 or 256, no window, 16 tokens or more",
        lambda rows: _usual_heads(rows) & (rows.isl >= 16),
        _prompts,
        attention_s,
    ),
    "decoding": Table(
        "attention",
        "generation_attention",
        "kv_cache_dtype",
        {"bfloat16": "bits_16", "fp8": "bits_8"},
        "heads of 64, 128 or 256, no window, contexts from 100, to 8 KV heads with 16 heads each, 512 sequences",
        lambda rows: (
            _usual_heads(rows)
            & (rows.num_key_value_heads <= 8)
            & (rows.num_heads <= 16 * rows.num_key_value_heads)
            & (rows.batch_size <= 512)
            & (rows.step >= 100)
        ),
        _decoding,
        attention_s,
    ),
    "latent_prompts": Table(
        "mla",
        "context_mla",
        "mla_dtype",
        {"bfloat16": "bits_16"},
        "8 heads or more, 16 tokens or more",
        lambda rows: (rows.isl >= 16) & (rows.num_heads >= 8),
        _latent_prompts,
        attention_s,
    ),
    "latent_decoding": Table(
        "mla",
        "generation_mla",
        "kv_cache_dtype",
        {"bfloat16": "bits_16"},
        "8 heads or more, contexts from 100",
        lambda rows: (rows.step >= 100) & (rows.num_heads >= 8),
        _latent_decoding,
        attention_s,
    ),
    "states": Table(
        "linear_attention",
        "gdn",
        "phase",
        {"generation": "bits_16"},
        "all",
        lambda rows: rows.kernel_source.str.contains("delta_rule"),
        _states,
        state_s,
    ),
    "state_chunks": Table(
        "linear_attention",
        "gdn",
        "phase",
        {"context": "bits_16"},
        "64 tokens or more",
        lambda rows: rows.kernel_source.str.contains("delta_rule") & (rows.seq_len >= 64),
        _states,
        state_s,
    ),
    "vectors": Table(
        "quantize",
        "scale_matrix",
        "quant_dtype",
        {"fp8": "bits_16"},
        "narrowing to fp8 with a given scale",
        lambda rows: rows.kernel_source == "static_scaled_fp8_quant",
        _vectors,
        vector_s,
    ),
}
# A table of another operator that products must answer as well; nothing is fitted to it.
BATCHED_PRODUCTS = Table(
    "mla_bmm",
    "mla_bmm",
    "bmm_dtype",
    {"bfloat16": "bits_16"},
    "8 heads or more",
    lambda rows: rows.num_heads >= 8,
    _heads,
    product_s,
)


NEAREST = 8  # rows of a table that an operation between them is told by


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where the rows of a table lie, and by what factor each took longer than the kernel's figures say."""

    places: NDArray[np.float64]  # [row, dimension] logarithms of an operation's sizes
    factors: NDArray[np.float64]  # [row] logarithms

    def factor(self, work: Work) -> float:
        """Of the nearest rows, the nearer the more; a row's own where `work` is that row's operation."""
        apart = ((self.places - _place(work)) ** 2).sum(axis=1)
        near = np.argpartition(apart, NEAREST)[:NEAREST] if apart.size > NEAREST else np.arange(apart.size)
        weights = 1 / (apart[near] + 1e-9)
        return float(np.exp(weights @ self.factors[near] / weights.sum()))


def looked_up(chip: RooflineChip, operators: OperatorsSpec, kind: str, name: str, kernel: Kernel, work: Work) -> float:
    """The factor of a kernel's time that users' own tables say; 1 where they have no table of its kind and format."""
    found = _lookup(chip, operators.tables, operators.library, kind, name, kernel)
    return 1.0 if found is None else found.factor(work)


@lru_cache(maxsize=64)
def _lookup(chip: RooflineChip, folder: str, library: str, kind: str, name: str, kernel: Kernel) -> Lookup | None:
    """The newest table that has most of the rows. Raises SpecError where the folder holds none at all."""
    where = Path(folder).expanduser()
    if not any(where.glob("*/*/*/*_perf.parquet")):
        mend = "name the folder of one system, with files such as gemm/vllm/0.24.0/gemm_perf.parquet in it"
        raise SpecError(Problem("chip.operators.tables", f"no tables of kernels in '{folder}'", mend))
    table = TABLES[kind]
    for column in (column for column, format_name in table.formats.items() if format_name == name):
        found = [
            timed
            for of, _, rows in tables(where, table)
            if library in ("", of) and (timed := measured(rows, table, column, ROWS_MOST)) is not None
        ]
        if found:
            most = max(timed.seconds.size for timed in found) // 2
            timed = next(timed for timed in reversed(found) if timed.seconds.size >= most)
            factors = np.log(timed.seconds / predicted(chip, kernel, table, timed))
            places = np.concatenate([_place(work) for work in timed.works])
            return Lookup(places, np.tile(factors, len(timed.works)))
    return None


ROWS_MOST = 200_000  # of one table


def _place(work: Work) -> NDArray[np.float64]:
    """[row, dimension] of operations with arrays, or one row: the logarithms of count, rows, and the first product's shape."""
    if work.part == "vector":
        return np.log(np.atleast_2d(np.asarray(work.elements, np.float64) + 1).T)
    sizes = np.broadcast_arrays(*(np.asarray(size, np.float64) for size in work.products[0]))
    place: NDArray[np.float64] = np.log(np.maximum(np.atleast_2d(np.stack(sizes, axis=-1)), 1e-3))
    return place
