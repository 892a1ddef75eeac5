"""Feeds every reader inputs that were changed at random, and judges what comes of each. `make fuzz` runs it at length.

    cd tests && ../.venv/bin/python -m fuzzing --count 20000
    cd tests && ../.venv/bin/python -m fuzzing topology --seed 1 --number 4711     # one input again

An input is read, or refused by an error of ours in lines anybody can read, within bounded time and memory. An error that only
the last net has caught (a KeyError inside, say) is a failure too: nobody could mend the file from its words.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dcsim.errors import DcsimError  # noqa: E402

LIMIT_S = 10.0  # of processor time for one input; the machine may be slow
MEMORY = 3 * 2**30  # bytes of address space beyond what the process has at first
BUGS = (KeyError, IndexError, AttributeError, TypeError, ZeroDivisionError, NameError, NotImplementedError, ArithmeticError)

# What a value may become: each has broken a reader somewhere.
_WORDS = r"""
~ null true no 0 -1 1 1e9 1e999 -1e999 0x10 1_000 .inf -.inf .nan NaN Infinity 4.9e-324 1e308 2147483648 18446744073709551616
[] {} [[1],[2]] ]]]]]]]]] [null] {"a":{}} &a *a | > # --- ... @ ` ' " ² µs 0o17 12:30 2001-02-03 .. / /dev/null /dev/zero . nosuch
8rack chat llama-3-8b h100 auto off - <<: \
"""
_TEXTS = r"""
[1, 2]
{a: 1}
!!int many
!!float x
!!python/object:os.system x
!mine x
!!set {a}
!!binary aGk=
!!timestamp 2001-01-01
2001-02-03 04:05:06
1 ns
5 GB
3 parsecs
300 ns ns
-5 s
1e400 s
&a [*a]
<<: *a
<<: 1
- - - 1
%YAML 9.9
"\ud800"
"\0"
"\e[31m"
{value: 1, kind: spec, source: x}
{value: 1, kind: assumed, source: x, range: 5}
{value: {}, kind: [], source: {}}
"""
NASTY = [
    *_WORDS.split(),
    *_TEXTS.strip().split("\n"),
    *(
        "",
        "? [a, b]\n: 1",
        "? {a: b}\n: 1",
        "\t",
        "\r",
        "\x00",
        "\x07",
        "\ufeff",
        "\u2028",
        "\U0001f600",
        "\u00e9" * 9,
        "x" * 9999,
    ),
    *("9" * 19, "9" * 400, "9" * 5000, "1" + "0" * 30, "[" * 300, "{a: " * 300),
]
VALUES = [None, True, -1, 0, 1.5, 10**30, 1e308, "", "x", "x" * 5000, [], {}, [[1], [2]], {"a": []}, [None], "\ud800"]


@dataclass(frozen=True)
class Reader:
    """A kind of input: examples of it as (file name, content), how they are changed, and what reads them."""

    examples: list[tuple[str, bytes]]
    read: Callable[[Path], Any]
    by_hand: bool = True  # written by people, who need more than the last net's words
    finish: Callable[[random.Random, str, bytes], bytes] = lambda _, __, content: content  # after the changes, such as packing
    beside: dict[str, bytes] = field(default_factory=dict)  # files that lie beside the input, if they are not it


def change(pick: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """The content after one to four changes: of bytes, of words, of lines, or of values where it is JSON."""
    for _ in range(pick.choice([1, 1, 1, 2, 3, 4])):
        content = pick.choice([_bytes, _word, _word, _word, _line, _line, _json, _splice])(pick, content, others)
    return content


def _bytes(pick: random.Random, content: bytes, _: list[bytes]) -> bytes:
    at, length = pick.randint(0, len(content)), pick.choice([0, 1, 1, 2, 8, 64, 1000])
    new = pick.choice(
        [b"", pick.randbytes(pick.choice([1, 2, 8])), content[at : at + length] * pick.choice([2, 50]), b"\xff\xfe"]
    )
    return content[:at] + new + content[at + length :]


def _word(pick: random.Random, content: bytes, _: list[bytes]) -> bytes:
    """One word, number or quoted text becomes something else."""
    text = content.decode("utf-8", "surrogateescape")
    words = list(re.finditer(r"[\w.+-]+|'[^']*'|\"[^\"]*\"|[\[\]{}:,]", text))
    if not words:
        return content + pick.choice(NASTY).encode()
    word = pick.choice(words)
    new = pick.choice(
        [*NASTY, word[0] * 2, word[0][:-1], word[0].upper(), pick.choice(words)[0], f"[{word[0]}]", f"{{a: {word[0]}}}"]
    )
    return (text[: word.start()] + new + text[word.end() :]).encode("utf-8", "surrogateescape")


def _line(pick: random.Random, content: bytes, others: list[bytes]) -> bytes:
    lines = content.splitlines(keepends=True) or [b"\n"]
    at, other = pick.randrange(len(lines)), pick.randrange(len(lines))
    what = pick.randrange(7)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines.insert(other, lines[at])
    elif what == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif what == 3:
        lines[at] = b"  " * pick.choice([1, 3, 40]) + lines[at]
    elif what == 4:
        lines[at] = lines[at].lstrip()
    elif what == 5:
        lines.insert(at, pick.choice(NASTY).encode("utf-8", "surrogatepass") + b"\n")
    else:
        lines.insert(at, pick.choice(pick.choice(others).splitlines(keepends=True) or [b"\n"]))
    return b"".join(lines)


def _json(pick: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """One value somewhere in a JSON text, or in one of its lines, becomes something else."""
    lines = content.splitlines(keepends=True)
    at = pick.randrange(len(lines)) if lines else 0
    for part in (content, lines[at] if lines else b""):
        try:
            data = json.loads(part)
        except (ValueError, RecursionError):
            continue
        places = list(_places(data))
        if not places:
            continue
        holder, key = pick.choice(places)
        new = copy.deepcopy(pick.choice(VALUES))
        if pick.random() < 0.2 and isinstance(holder, dict):
            holder[str(new)[:20]] = holder.pop(key)
        else:
            holder[key] = new
        changed = json.dumps(data).encode()
        return changed if part is content else b"".join([*lines[:at], changed, b"\n", *lines[at + 1 :]])
    return _word(pick, content, others)


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in list(keys):
        yield data, key
        yield from _places(data[key])


def _splice(pick: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """The beginning of this and the end of another."""
    other = pick.choice(others)
    return content[: pick.randint(0, len(content))] + other[pick.randint(0, len(other)) :]


# The readers


def _files(*patterns: str) -> list[tuple[str, bytes]]:
    """Files of the library, their long words about sources cut short: most changes should hit something else."""
    paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return [(path.name, re.sub(rb'source: "[^"\n]*"', b'source: "x"', path.read_bytes())) for path in paths]


def _topology(path: Path) -> Any:
    from dcsim.spec.load import load

    return load(path)


def _entry(option: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        from dcsim.spec.load import load

        return load("64chip", **{option: str(path)})

    return read


def _workload(path: Path) -> Any:
    """The spec, and what it makes of its first requests."""
    from dcsim.spec.load import load
    from dcsim.workload.closed import make_closed_loop
    from dcsim.workload.generate import iterate_requests

    spec = load("64chip", workload=str(path)).spec.workload
    return make_closed_loop(spec, 1) if spec.kind == "closed" else next(iterate_requests(spec, 1, 1000), None)


def _short_traces() -> dict[str, bytes]:
    """The traces that workloads name, under their names, with a few rows each."""
    return {
        name + ".gz": gzip.compress(rows, mtime=0)
        for name, rows in _rows()
        if (ROOT / "workloads/traces" / f"{name}.gz").exists()
    }


def _trace(path: Path) -> Any:
    from dcsim.spec.workload import TraceSpec
    from dcsim.workload.traces import read_trace

    return read_trace(path, TraceSpec.model_validate({"file": str(path), "unsorted": "sort"}))


def _graph(path: Path) -> Any:
    from dcsim.fabric.custom import read_fabric

    return read_fabric(path)


def _price(path: Path) -> Any:
    from dcsim.spec.price import RentPrices, TcoPrices, read_prices

    return read_prices(str(path), RentPrices if b"rent" in path.read_bytes()[:200] else TcoPrices)


def _setting(path: Path) -> Any:
    from dcsim.spec.load import load

    return load("64chip", settings=[os.fsdecode(path.read_bytes()).replace("\0", "")])


def _run_folder(path: Path) -> Any:
    from dcsim.economics.cost import run_cost
    from dcsim.results.records import open_run

    run = open_run(path.parent)
    return run_cost(run), len(run.requests)


def _command(path: Path) -> Any:
    """A whole run, in a process of its own: nothing but a whole run folder may come of it."""
    before = {path.name}
    code, said = _apart(lambda: _serve(path))
    left = {entry.name for entry in path.parent.iterdir()} - before
    try:
        if left - {"out"} or (left and not (path.parent / "out" / "meta.json").is_file()):
            raise AssertionError(f"left behind: {sorted(left)}")
        if code < 0:
            raise AssertionError(f"ended by signal {-code}, as for too much time or memory: {said}")
        if code:
            raise AssertionError(said)
    finally:
        for name in left:
            shutil.rmtree(path.parent / name, ignore_errors=True)


def _serve(path: Path) -> None:
    import dcsim

    settings = ["workload.duration=1 s"] if b"workload" in path.read_bytes() else []
    dcsim.load(path, set=settings).run(out=path.parent / "out")


def _apart(work: Callable[[], None]) -> tuple[int, str]:
    """Do the work in a fork with limits: 0, or what is wrong with how it ended (negative: the signal that did)."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CPU, (int(3 * LIMIT_S), int(3 * LIMIT_S) + 1))
        said = ""
        try:
            work()
        except DcsimError as error:
            said = _unclear(error, True)
        except BaseException as error:
            said = f"{type(error).__name__}: {error} at {traceback.extract_tb(error.__traceback__)[-1]}"
        os.write(writes, said.encode(errors="replace")[:4000])
        os._exit(bool(said))
    os.close(writes)
    with open(reads, "rb") as file:
        said = file.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said


@cache
def _saved() -> dict[str, bytes]:
    """The files of a short run."""
    import dcsim

    with tempfile.TemporaryDirectory() as folder:
        dcsim.load("64chip", set=["workload.requests=3"]).run(out=Path(folder) / "r")
        return {path.name: path.read_bytes() for path in sorted((Path(folder) / "r").iterdir())}


def _of_run() -> list[tuple[str, bytes]]:
    return [(name, content) for name, content in _saved().items() if name.endswith((".json", "requests.parquet"))]


def _rows() -> list[tuple[str, bytes]]:
    """Some rows of each format."""
    whole = []
    for path in sorted((ROOT / "workloads/traces").glob("*.gz")):
        with gzip.open(path) as file:
            whole.append((path.name.removesuffix(".gz"), b"".join(file.readlines(3000))))
    own = [
        ("v.csv", b"arrived_at,num_prefill_tokens,num_decode_tokens\n7.0,374,44\n7.25,396,109\n8.5,12,1\n"),
        (
            "b.csv",
            b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT-4,374,44,418,API log\n6,x,9,0,9,y\n",
        ),
        ("q.jsonl", b'{"chat_id": 1, "timestamp": 0.5, "input_length": 5, "output_length": 8, "turn": 1, "hash_ids": [1]}\n' * 3),
    ]
    return [*whole, *own]


def _packed(pick: random.Random, name: str, content: bytes) -> bytes:
    """Packed as the name says, and sometimes damaged after that."""
    packed = gzip.compress(content, 1, mtime=0) if name.endswith(".gz") else _zstd(content)
    return _bytes(pick, packed, []) if pick.random() < 0.4 else packed


def _zstd(content: bytes) -> bytes:
    import pyarrow as pa

    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def _parquet() -> list[tuple[str, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"arrived_at": [0.0, 1.5], "num_prefill_tokens": [5, 6], "num_decode_tokens": [7, 8]}), buffer)
    return [("t.parquet", buffer.getvalue())]


def _graphs() -> list[tuple[str, bytes]]:
    from dcsim.fabric.direct import torus
    from dcsim.fabric.export import write_fabric
    from dcsim.fabric.switched import leaf_spine

    with tempfile.TemporaryDirectory() as folder:
        for name, fabric in (("torus", torus((2, 3))), ("tree", leaf_spine(6, 2, 2))):
            for ending in ("json", "graphml"):
                write_fabric(fabric, Path(folder) / f"{name}.{ending}")
        return [(path.name, path.read_bytes()) for path in sorted(Path(folder).iterdir())]


def _configs() -> list[tuple[str, bytes]]:
    figures = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100, "intermediate_size": 128}
    more: list[dict[str, Any]] = [
        {
            "model_type": "llama",
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "rope_scaling": {"type": "linear", "factor": 2},
        },
        {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None},
        {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "n_positions": 128},
        {"model_type": "falcon", "multi_query": True, "parallel_attn": True},
        {
            "model_type": "qwen3_moe",
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "decoder_sparse_step": 1,
        },
        {"model_type": "gemma3", "text_config": {**figures, "model_type": "gemma3_text", "layer_types": ["full_attention"] * 2}},
        {"model_type": "deepseek_v3", "n_routed_experts": 8, "kv_lora_rank": 16, "q_lora_rank": 16, "first_k_dense_replace": 1},
        {"model_type": "whisper", "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "decoder_attention_heads": 4},
        {"model_type": "llama", "quantization_config": {"quant_method": "fp8", "ignored_layers": []}, "torch_dtype": "bfloat16"},
    ]
    return [("config.json", json.dumps({**figures, **one}, indent=1).encode()) for one in more]


def _settings() -> list[tuple[str, bytes]]:
    texts = """
        mapping.tp=8
        slo.ttft=1 s
        chip.memory=440 MiB
        llm=llama-2-7b
        workload.rate_scale=2
        workload.duration=5 s
        network.clock.slack_cycles=30
        clock.drift=50 ppm
        serving.batch_buckets=[1, 2]
        fabric.nodes=8
        fabric.kind=torus
        faults.events=[{at: 1 s, part: chip, index: 2}]
        workload.classes=[{name: a, share: 1}]
        power.pue=1.2
        network=scheduled
    """
    return [("setting", text.strip().encode()) for text in texts.strip().split("\n")]


READERS: dict[str, Callable[[], Reader]] = {
    "topology": lambda: Reader(_files("topologies/*.yaml"), _topology),
    "workload": lambda: Reader(_files("workloads/*.yaml"), _workload, beside=_short_traces()),
    "llm": lambda: Reader(_files("workloads/llms/*.yaml"), _entry("llm")),
    "network": lambda: Reader(_files("topologies/networks/*.yaml"), _entry("network")),
    "config": lambda: Reader(_configs(), _entry("llm")),
    "price": lambda: Reader(_files("topologies/prices/chiplet-cloud.yaml", "topologies/prices/rent*.yaml"), _price),
    "setting": lambda: Reader(_settings(), _setting),
    "trace": lambda: Reader(_rows(), _trace),
    "packed": lambda: Reader([(f"{n}{end}", c) for n, c in _rows() for end in (".gz", ".zst")], _trace, finish=_packed),
    "parquet": lambda: Reader(_parquet(), _trace),
    "graph": lambda: Reader(_graphs(), _graph),
    "command": lambda: Reader(_files("topologies/node.yaml", "topologies/64chip.yaml", "topologies/dgx-h100.yaml"), _command),
    "run": lambda: Reader(_of_run(), _run_folder, by_hand=False, beside=_saved()),
}


def make(reader: Reader, name: str, seed: int, number: int) -> tuple[str, bytes]:
    """Input `number`: a file's name and content, the same for the same seed in any process."""
    pick = random.Random(f"{seed}/{name}/{number}")
    file, content = pick.choice(reader.examples)
    return file, reader.finish(pick, file, change(pick, content, [other for _, other in reader.examples]))


class TooLong(BaseException):
    """An input took longer than it may; not an Exception, so that nobody else catches it."""


@contextmanager
def limited() -> Iterator[None]:
    """Within the block TooLong comes up after LIMIT_S of processor time."""

    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def limited_memory() -> Iterator[None]:
    """Within the block the process, and each that it starts, gets no more than MEMORY bytes of address space in addition."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def judge(reader: Reader, path: Path) -> str:
    """What is wrong with what comes of reading `path`; empty if nothing is."""
    try:
        with limited():
            reader.read(path)
    except DcsimError as error:
        return _unclear(error, reader.by_hand)
    except TooLong:
        return f"takes more than {LIMIT_S:g} s"
    except MemoryError:
        return "takes more memory than it may"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _unclear(error: DcsimError, by_hand: bool) -> str:
    text = str(error)
    if not text or not all(len(line) <= 1500 and line.isprintable() for line in text.split("\n")):
        return f"an error that does not show: {text[:500]!r}"
    if max(map(len, text.split())) > 300 or len(text.split("\n")) > 51:
        return f"an error without end: {text[:500]!r}"
    below = error.__cause__
    if isinstance(below, MemoryError):
        return f"takes more memory than it may: {text}"
    if by_hand and isinstance(below, BUGS) and not isinstance(below, (KeyError, OverflowError)):
        return f"only the last net caught {type(below).__name__}: {text}"
    return ""


def fuzz(name: str, seed: int, count: int, tell: Callable[[int], None] = lambda _: None) -> list[str]:
    """Judge `count` inputs of one reader; a line for each that fails, with what replays it."""
    reader, failures = READERS[name](), []
    with place(reader) as folder, limited_memory():
        for number in range(count):
            file, content = make(reader, name, seed, number)
            path = folder / file
            path.write_bytes(content)
            if wrong := judge(reader, path):
                failures.append(f"{name} --seed {seed} --number {number} ({file}): {wrong}")
            if file in reader.beside:
                path.write_bytes(reader.beside[file])
            else:
                path.unlink()
            tell(number + 1)
    return failures


@contextmanager
def place(reader: Reader) -> Iterator[Path]:
    """A folder with what lies beside the reader's inputs, gone to."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, content in reader.beside.items():
            Path(name).write_bytes(content)
        yield Path(folder)


def main() -> int:
    """Judge many inputs of each reader, or one again."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("readers", nargs="*", choices=[[], *READERS], help="default: all")
    words.add_argument("--count", type=int, default=20_000, help="inputs of each reader; whole runs a twentieth")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--number", type=int, help="this input alone, shown and with its traceback")
    asked = words.parse_args()
    warnings.simplefilter("error")  # a library's doubt about our numbers is a failure, as in the tests
    names = asked.readers or list(READERS)
    if asked.number is not None:
        return _replay(names[0], asked.seed, asked.number)
    from dcsim.cli.options import progress_bar

    failed = 0
    for name in names:
        began, count = sum(os.times()[:4]), max(1, asked.count // 20) if name == "command" else asked.count
        with progress_bar(name, "inputs") as progress:
            failures = fuzz(name, asked.seed, count, lambda n, count=count: progress and progress(n, count))
        failed += len(failures)
        took_s = sum(os.times()[:4]) - began  # processor time, forks included
        print(f"{name}: {count:,} inputs, {len(failures)} failures, {took_s:.0f} s", flush=True)
        print("\n".join(failures[:20]), flush=True)
    return min(failed, 1)


def _replay(name: str, seed: int, number: int) -> int:
    reader = READERS[name]()
    file, content = make(reader, name, seed, number)
    sys.stdout.buffer.write(content + b"\n")
    with place(reader) as folder:
        (folder / file).write_bytes(content)
        print("read:", reader.read(folder / file))
    return 0


def _address_space() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 2**33


if __name__ == "__main__":
    sys.exit(main())
