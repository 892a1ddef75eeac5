"""Do the tests bite? Small faults are planted one at a time, the nearest tests run, and what survives is named.

    python tests/mutants.py --seed 7 --count 20
    python tests/mutants.py --seed 7 --only results/ --json     # those of the same hundred that fall in there, a line each

What a fault came to is printed as soon as it is known. Sites are all comparisons, sums and products, numbers, boolean operators,
indices and statements with an effect in the modules of NEAREST. Each is changed in a copy of the checkout, never in the checkout
itself. Kernels are compiled anew for each of their faults, except where PLAIN has them run as plain Python.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatch
from math import ceil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Modules (a pattern below dcsim/, the last that fits) and the tests that stand nearest to them; PLAIN kernels run as Python.
CLUSTER = (
    "cluster/simpy/test_replica_laws.py",
    "cluster/simpy",
    *(f"cluster/test_{name}.py" for name in ("policies", "theory", "service", "duration", "ways_agree")),
)
LIBRARIES = tuple(f"network/test_{name}.py" for name in ("library_laws", "packet_libraries", "packet_collective"))
NEAREST: dict[str, tuple[str, ...]] = {
    "results/metrics.py": ("test_metrics.py", "test_metrics_laws.py"),
    "llm/cost.py": ("llm/test_cost.py", "llm/test_program.py"),
    "llm/mapping.py": ("llm/test_mapping_laws.py", "llm/test_mapping.py", "llm/test_program.py"),
    "network/patterns/*.py": ("network/test_collectives.py", "network/test_meshes.py", "network/test_lower.py"),
    "network/collectives.py": ("network/test_library_laws.py", "network/test_collectives.py"),
    "network/packet/collective.py": LIBRARIES,
    "network/packet/library.py": LIBRARIES,
    "workload/rates.py": ("workload/test_rates.py", "workload/test_generate.py"),
    "cluster/simpy/replica.py": CLUSTER,
    "economics/tco.py": ("test_economics.py",),
    "power/*.py": ("power", "cluster/test_caps.py", "test_economics.py"),
    "power/caps_kernel.py": ("power/test_power_laws.py",),
    "network/scheduled/proof.py": tuple(f"network/scheduled/test_{name}.py" for name in ("proof_laws", "schedule_proof")),
    "network/scheduled/proof_kernel.py": tuple(
        f"network/scheduled/test_{name}.py" for name in ("proof_laws", "schedule_oracle", "schedule_proof")
    ),
    "network/packet/engine/*_kernel.py": tuple(
        f"network/packet/test_packet_{name}.py" for name in ("laws", "wheel", "rates", "fetch", "small")
    ),
}
MEMORY_KB = 8_000_000
PLAIN = ("power/caps_kernel.py", "network/scheduled/proof_kernel.py", "network/packet/engine/*_kernel.py")

_SPANS = "SPANS_MAX = 16  # spans of a slot for each vector of a link, up to which spans are looked at rather than sorted starts"
_IDLE = "if (end - begin) // slot > SPANS_MAX * len(starts):"
_EITHER_WAY = "either way of looking finds the same"
_DEEPEST = "deepest = max((_divide(k, tile_k) for *_, k, _ in work.products), default=0)"
_WIDEN = "widen = weights / chip.widen_weights_per_cycle if work.stored_bytes < active_bytes else 0.0"
_DEALT = "keys are dealt in another order before they are sorted"
_CROWD = "if end == count or keys[0, end] >> shift != keys[0, begin] >> shift:"
_INSIDE = "inside = held_edges[(held_edges > edges[0]) & (held_edges < edges[-1])]"
_AHEAD = "onward = next_link(s, s.tally[0].epoch, s.links[link].target, packet, 0)"
_FIRST_LINK = "of all links, the first is not brought into the cache ahead of time"
_FEWER = "if not least <= tp <= SHARDS_MAX or 0 < fewest[0] <= tp:"
_WEIGHTS = "if _all_weight_bytes(llm, spec) > offered * limit_bytes(chip):"
_NO_KV = "where weights fill all, no cut leaves room for KV cache, and the same is said"
_HOME = "if index == -1 and s.home[row.target] >= 0 and (len(s.faults) == 0 or s.links[s.home[row.target]].up):"
_LOOKED_FOR = "the one link to a chip is also found where it is looked for"
_CROWDED = "crowded[burst_link[burst]] |= wait > figures[BUFFER] * figures[SLOT]"
_HEADROOM = "if s.landed[queue] - gone <= s.queues[queue].capacity:"
_WITHIN = "within = np.full((end - begin) // slot + 2, -slot, np.int64)  # [span] when its vector leaves, counted from `begin`"
_SAME_START = "a message that starts at 0 is given the same start again"
_MEETS = "a sum of halves does not meet the threshold itself"
# Survivors that change nothing anybody could see: (module, line of source, what it became) -> why.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("results/metrics.py", "_BIN_SHIFT = 44", "45"): "bins of another width lead to the same numbers",
    ("results/metrics.py", "_BINS = 1 << 63 - _BIN_SHIFT", "64"): "more bins stay empty",
    ("network/scheduled/proof_kernel.py", _SPANS, "17"): _EITHER_WAY,
    ("llm/cost.py", _WIDEN, "1.0"): "planes take a cycle at least, however fast they are filled",
    ("llm/cost.py", _DEEPEST, "1"): "a matrix operation without products takes no time, so its first output does not either",
    ("cluster/simpy/replica.py", "self._leaving.clear()", "pass"): "who has gone is looked at again, and has left already",
    ("network/packet/engine/wheel_kernel.py", "shift += 1", "2"): _DEALT,
    (
        "network/packet/engine/wheel_kernel.py",
        _CROWD,
        "(end == count and keys[0, end] >> shift != keys[0, begin] >> shift)",
    ): _DEALT,
    (
        "network/packet/engine/link_kernel.py",
        "row.passed = needed",
        "pass",
    ): "counting what is free begins lower and comes to the same",
    ("network/packet/engine/rate_kernel.py", "if state.now_rate > 0.9999:", "(state.now_rate >= 0.9999)"): _MEETS,
    ("network/packet/engine/loop_kernel.py", _AHEAD, "1"): "queues have no say where a way is chosen ahead, nor has the time",
    (
        "network/packet/engine/link_kernel.py",
        "if at_switch and line.buffer_ps < FOREVER and _is_full(s, now, link, packet, queue_ps):",
        "(line.buffer_ps <= FOREVER)",
    ): "no queue is longer than for ever",
    ("network/packet/engine/loop_kernel.py", "if 0 <= place < len(s.links):", "1"): _FIRST_LINK,
    ("network/packet/engine/loop_kernel.py", "if 0 <= place < len(s.links):", "(0 < place < len(s.links))"): _FIRST_LINK,
    ("network/packet/engine/link_kernel.py", _HEADROOM, "(queue) - 1"): "buffer and headroom are alike at all links",
    **{
        ("network/scheduled/proof_kernel.py", _WITHIN, became): "more spans stay empty"
        for became in ("((end - begin) * slot)", "(end + begin)", "3")
    },
    **{
        ("network/scheduled/proof_kernel.py", _IDLE, became): _EITHER_WAY
        for became in (
            "((end - begin) // slot >= SPANS_MAX * len(starts))",
            "((end - begin) * slot)",
            "(end + begin)",
            "(SPANS_MAX + len(starts))",
        )
    },
    ("network/packet/engine/progress_kernel.py", "if s.tasks[message].start < 0:", "1"): _SAME_START,
    ("network/packet/engine/progress_kernel.py", "if s.tasks[message].start < 0:", "(s.tasks[message].start <= 0)"): _SAME_START,
    ("network/packet/engine/routing_kernel.py", _HOME, "1"): _LOOKED_FOR,
    ("network/packet/engine/routing_kernel.py", _HOME, "(s.home[row.target] > 0)"): _LOOKED_FOR,
    (
        "network/scheduled/proof_kernel.py",
        _CROWDED,
        "(wait >= figures[BUFFER] * figures[SLOT])",
    ): "whose vectors are counted one by one without need",
    ("llm/mapping.py", _FEWER, "1"): "what is not shorter is left out after it is looked at, too",
    ("llm/mapping.py", _WEIGHTS, "(_all_weight_bytes(llm, spec) >= offered * limit_bytes(chip))"): _NO_KV,
    ("network/patterns/trees.py", "depth[node] = of(parents[node]) + 1", "2"): "who is deeper is deeper by any count",
    ("workload/rates.py", _INSIDE, "(held_edges >= edges[0])"): "a cut at the first edge is there already",
}

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: characters `start` to `end` of a module's text become `text`."""

    module: str  # below dcsim/
    kind: str
    line: int
    start: int
    end: int
    text: str

    def applied(self, source: str) -> str:
        """The module with the fault."""
        return source[: self.start] + self.text + source[self.end :]

    def shown(self, source: str) -> tuple[str, str]:
        """The faulty part before and after, each on one line."""
        return " ".join(source[self.start : self.end].split()), self.text


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests made of a fault: the first that failed (empty: it survived), and the processor time they took."""

    mutant: Mutant
    test: str
    took_s: float

    def told(self, source: str) -> dict[str, object]:
        """Place, change, test and time, for people and programs, from the module's text without the fault."""
        mutant = self.mutant
        before, after = mutant.shown(source)
        line = source.splitlines()[mutant.line - 1].strip()
        equivalent = EQUIVALENT.get((mutant.module, line, mutant.text), "")
        place = f"dcsim/{mutant.module}:{mutant.line}"
        told = {"place": place, "kind": mutant.kind, "before": before, "after": after, "test": self.test}
        return {**told, "equivalent": equivalent, "took_s": round(self.took_s, 1)}


def mutants_of(module: str, source: str) -> list[Mutant]:
    """Every fault that can be planted in a module, in the order of its text."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    text = source.encode()

    def at(line: int, column: int) -> int:
        return len(text[: starts[line - 1] + column].decode())

    found = []
    for node, kind, changed in _changes(ast.parse(source)):
        start, end = at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)
        found.append(Mutant(module, kind, node.lineno, start, end, changed))
    return sorted(set(found), key=lambda m: (m.start, m.end, m.kind, m.text))


def _changes(tree: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    """(node, kind of fault, its new text) for all that counts when the module runs: no types, docstrings, f-strings, checks."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "type_params", "decorator_list") or isinstance(tree, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_for_types(child) and not _is_check(child):
                yield from _changed(child)
                if not _is_negative(child):
                    yield from _changes(child)


def _is_for_types(node: ast.AST) -> bool:
    """Assignments of types alone, and what only a type checker reads."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _is_check(node: ast.AST) -> bool:
    """`strict=True` of a zip, which like an assertion changes nothing while all is right."""
    return isinstance(node, ast.keyword) and node.arg == "strict"


def _is_negative(node: ast.AST) -> bool:
    """A number below zero, which is one number."""
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)


def _changed(node: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    def swapped(**fields: object) -> str:
        return f"({ast.unparse(type(node)(**{**dict(ast.iter_fields(node)), **fields}))})"

    match node:
        case ast.Compare(ops=[first, *rest]) if type(first) in _SWAPS:
            yield node, "comparison", swapped(ops=[_SWAPS[type(first)](), *rest])
        case ast.BinOp(op=op) if type(op) in _SWAPS:
            yield node, "arithmetic", swapped(op=_SWAPS[type(op)]())
        case ast.AugAssign(op=op) if type(op) in _SWAPS:
            yield node, "arithmetic", swapped(op=_SWAPS[type(op)]())[1:-1]
        case ast.BoolOp(op=op):
            yield node, "boolean", swapped(op=_SWAPS[type(op)]())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield node, "boolean", f"bool({ast.unparse(operand)})"
        case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
            yield node, "arithmetic", f"({ast.unparse(operand)})"
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            yield node, "constant", repr(1 - value)
        case ast.Constant(value=bool(value)):
            yield node, "constant", str(not value)
        case ast.Constant(value=int() | float() as value):
            yield node, "constant", repr(value + 1 if abs(value) < 10**6 else 2 * value)
        case ast.Subscript(slice=ast.Name() | ast.BinOp() as index, ctx=ast.Load()):
            yield index, "index", f"({ast.unparse(index)}) - 1"
        case ast.Expr(value=ast.Call()) | ast.Continue() | ast.Break() | ast.Raise() | ast.AugAssign():
            yield node, "deletion", "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "deletion", "pass"
    if isinstance(node, ast.AugAssign):
        yield node, "deletion", "pass"


def modules() -> dict[str, tuple[str, ...]]:
    """Each module below dcsim/ and its nearest tests, those that there are."""
    found = {}
    for pattern, tests in NEAREST.items():
        for path in sorted((ROOT / "dcsim").glob(pattern)):
            found[path.relative_to(ROOT / "dcsim").as_posix()] = tuple(t for t in tests if (ROOT / "tests" / t).exists())
    return found


def is_plain(module: str) -> bool:
    """Whether kernels run as plain Python while this module has a fault."""
    return any(fnmatch(module, pattern) for pattern in PLAIN)


def draw(seed: int, count: int, of: Sequence[str]) -> list[Mutant]:
    """`count` faults among all of these modules, each as likely as any other."""
    every = [mutant for module in of for mutant in mutants_of(module, (ROOT / "dcsim" / module).read_text())]
    return random.Random(seed).sample(every, min(count, len(every)))


class Copy:
    """A copy of the checkout to plant faults in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["git", "ls-files", "-co", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        # What is compiled already is found by what it is made of, wherever it stands.
        kernels = Path("dcsim/__pycache__/kernels")
        if (ROOT / kernels).is_dir():
            shutil.copytree(ROOT / kernels, folder / kernels)

    def failing(self, module: str, tests: Sequence[str], limit_s: int | None = None) -> tuple[str, float]:
        """The first test that fails (empty: all pass), and the processor time that took; beyond `limit_s` of it, that is said.

        Processor time, because whatever else a machine does must not kill a fault, and a loop without end should end soon.
        """
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "400"}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # none is needed, and loading all takes longer than most tests
        if is_plain(module):
            environment["NUMBA_DISABLE_JIT"] = "1"
        # A fault may make a loop that never ends and fills memory.
        limits = f"ulimit -v {MEMORY_KB}" + ("" if limit_s is None else f" && ulimit -t {limit_s}")
        pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no"]
        command = ["sh", "-c", f'{limits}; exec "$@"', "sh", *pytest, *(f"tests/{test}" for test in tests)]
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=said, stderr=subprocess.DEVNULL)
            asleep = threading.Timer(100 * (limit_s or 1000), process.kill)  # it may also wait for ever
            asleep.daemon = True
            asleep.start()
            _, status, used = os.wait4(process.pid, 0)
            asleep.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            named = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(.*?)(?: - .*)?$", said.read(), re.MULTILINE)
        took_s = used.ru_utime + used.ru_stime
        if process.returncode == 0:
            return "", took_s
        if named:
            return named[1], took_s
        return ("no end" if process.returncode < 0 else "nothing runs"), took_s

    def plant(self, mutant: Mutant, tests: Sequence[str], limit_s: int) -> Outcome:
        """What the tests make of the fault."""
        path = self.folder / "dcsim" / mutant.module
        source = path.read_text()
        try:
            path.write_text(mutant.applied(source))
            return Outcome(mutant, *self.failing(mutant.module, tests, limit_s))
        finally:
            path.write_text(source)


def outcomes(mutants: Sequence[Mutant], jobs: int) -> Iterator[Outcome]:
    """Plant each, `jobs` at once, and give what it came to when it is known; raises RuntimeError where tests fail without any."""
    nearest = modules()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: queue.Queue[Copy] = queue.Queue()
        for number in range(jobs):
            copies.put(Copy(Path(folder) / str(number)))
        limits: dict[tuple[tuple[str, ...], bool], int] = {}  # seconds, by tests and whether kernels are plain

        def plant(mutant: Mutant) -> Outcome:
            copy, tests = copies.get(), nearest[mutant.module]
            try:
                key = tests, is_plain(mutant.module)
                if key not in limits:
                    failed, took_s = copy.failing(mutant.module, tests)
                    if failed:
                        raise RuntimeError(f"a test fails as it is: {failed}, of {' '.join(tests)}")
                    limits[key] = 10 + ceil(1.5 * took_s)
                return copy.plant(mutant, tests, limits[key])
            finally:
                copies.put(copy)

        try:
            for done in as_completed([pool.submit(plant, mutant) for mutant in mutants]):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def say(text: str) -> None:
    """Progress, on stderr; one line that is written over where that is a terminal."""
    over = sys.stderr.isatty()
    if over or text:
        print(f"\r\033[K{text}" if over else text, end="" if over else "\n", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each survivor; 1 if more than a tenth of the faults, or more than 5 in 100 held equivalent, survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="which faults are drawn")
    parser.add_argument("--count", type=int, default=100, help="how many, among all modules")
    parser.add_argument(
        "--only", nargs="*", default=[""], help="plant those in modules whose path holds one of these, e.g. results/"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each fault: place, change, first test that fails")
    options = parser.parse_args(arguments)
    drawn = draw(options.seed, options.count, list(modules()))
    mutants = [mutant for mutant in drawn if any(part in mutant.module for part in options.only)]
    sources = {mutant.module: (ROOT / "dcsim" / mutant.module).read_text() for mutant in mutants}
    missed = alike = 0
    for number, outcome in enumerate(outcomes(mutants, options.jobs), 1):
        told = outcome.told(sources[outcome.mutant.module])
        missed += not outcome.test and not told["equivalent"]
        alike += not outcome.test and bool(told["equivalent"])
        if options.json:
            print(json.dumps(told), flush=True)
        elif not outcome.test:
            say("")
            why = f"  (equivalent: {told['equivalent']})" if told["equivalent"] else ""
            print(f"{told['place']}: {told['kind']}: {told['before']}  ->  {told['after']}{why}", flush=True)
        say(f"{number} of {len(mutants)} faults planted, {missed + alike} survived; the last in {told['place']}")
    say("")
    of = f"{len(mutants)} of {len(drawn)}" if len(mutants) < len(drawn) else f"{len(drawn)}"
    print(
        f"{of} faults of seed {options.seed}: {missed} missed, {alike} held equivalent", file=sys.stderr if options.json else None
    )
    return int(missed > len(mutants) / 10 or alike > len(mutants) / 20)


if __name__ == "__main__":
    raise SystemExit(main())
