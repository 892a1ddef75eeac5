"""Imports point one way; the offender is named."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Lower floors never import higher ones; rooms on one floor do not import each other.
FLOORS = {
    "errors": 0,
    "units": 0.5,
    "interrupt": 0,
    "reading": 0.5,
    "workers": 0.5,
    "writing": 0.5,
    "library": 1,
    "kernels": 1,
    "policies": 1,
    "spec": 2,
    "results": 3,
    "fabric": 4,
    "workload": 4,
    "llm": 4,
    "network": 5,
    "power": 6,
    "cluster": 7,
    "economics": 8,
    "study": 9,
    "api": 10,
    "validation": 11,
    "cli": 12,
    "dashboard": 12,
}
# A saved run opens without the simulator.
READERS = {"results"}
READERS_MAY = {"units", "errors", "spec", "reading", "writing"}
HEAVY = {"pandas", "plotly", "pyarrow", "numba"}


def _files():
    for folder in ("dcsim", "dashboard", "validation"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            room = parts[0] if folder != "dcsim" else parts[1]
            if room not in ("__init__", "__main__"):
                yield path, room


def _imports(path):
    """(module, line, at module level) of each import."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"dcsim.{a.name}" for a in node.names] if node.module == "dcsim" else [node.module]
            yield from ((name, node.lineno, id(node) in top) for name in names)


def test_imports_point_one_way():
    offenders = []
    for path, room in _files():
        assert room in FLOORS, f"{path}: give the room '{room}' a floor"
        for module, line, _ in _imports(path):
            parts = module.split(".")
            if parts[0] not in ("dcsim", "dashboard", "validation") or module in ("dcsim", "dcsim.__version__"):
                continue
            other = parts[1] if parts[0] == "dcsim" else parts[0]
            allowed = other == room or FLOORS.get(other, 99) < FLOORS[room]
            if room in READERS:
                allowed = other == room or other in READERS_MAY
            if not allowed:
                offenders.append(f"{path.relative_to(ROOT)}:{line}: {room} imports {module}")
    assert not offenders, "\n".join(offenders)


def test_the_proof_does_not_know_the_compiler():
    for path in sorted((ROOT / "dcsim/network/scheduled").glob("proof*.py")):
        for module, line, _ in _imports(path):
            assert "compile" not in module, f"{path}:{line}: the proof imports {module}"


def test_only_the_room_of_kernels_knows_how_they_are_compiled():
    for path, room in _files():
        for module, line, _ in _imports(path):
            root = module.partition(".")[0]
            assert room == "kernels" or root not in ("numba", "llvmlite"), f"{path}:{line}: {room} imports {module}"
            compiled = module == "dcsim.kernels.jit" and room != "kernels"
            assert not compiled or path.stem.endswith("_kernel"), f"{path}:{line}: kernels stand in files named *_kernel.py"


def test_a_light_import_stays_light():
    import subprocess
    import sys

    code = f"import sys, dcsim, dcsim.cli; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
