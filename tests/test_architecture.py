"""Imports point one way; the offender is named."""

import ast
from collections import Counter
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


# What only a network's own room may ask of it, and only `power` may do with watts.

NETWORK_CLASSES = {"ScheduledNetwork", "PacketNetwork", "CompiledNetwork", "SimulatedNetwork"}
NETWORK_KINDS = {"scheduled", "packet"}
NETWORK_ROOMS = {"network", "spec"}  # spec reads the kind from files


def _names(node):
    """The last name of an attribute or a name, and the names in a tuple of them."""
    if isinstance(node, ast.Tuple):
        return {name for part in node.elts for name in _names(part)}
    if isinstance(node, ast.Attribute):
        return {node.attr}
    return {node.id} if isinstance(node, ast.Name) else set()


def _is_kind(node):
    return isinstance(node, ast.Attribute) and node.attr == "kind"


def _is_networks_kind(node):
    return _is_kind(node) and "network" in _names(node.value)


def _asks_which_network(tree):
    """(line, what) of each place that compares a network's kind or class, or looks for a flag only one kind has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            texts = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
            if any(map(_is_networks_kind, sides)) or (texts & NETWORK_KINDS and any(map(_is_kind, sides))):
                yield node.lineno, "compares a network's kind"
        elif isinstance(node, ast.Match) and (_is_networks_kind(node.subject) or "network" in _names(node.subject)):
            yield node.lineno, "matches a network"
        elif isinstance(node, ast.Subscript) and _is_networks_kind(node.slice):
            yield node.lineno, "looks a network's kind up"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            if node.func.id == "isinstance" and _names(node.args[1]) & NETWORK_CLASSES:
                yield node.lineno, "compares a network's class"
            elif node.func.id in ("hasattr", "getattr", "type") and _names(node.args[0]) & {"network", "bill"}:
                yield node.lineno, f"{node.func.id} of a network"


def _is_watts(node):
    """Whether a number is watts by its name, or made of such."""
    if isinstance(node, ast.BinOp):
        return _is_watts(node.left) or _is_watts(node.right)
    if isinstance(node, ast.Subscript):
        return _is_watts(node.value) or (isinstance(node.slice, ast.Constant) and str(node.slice.value).endswith("_w"))
    return any(name.endswith("_w") for name in _names(node))


def _adds_watts(tree):
    """Lines with a sum of two things whose names end in `_w`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            both = node.left, node.right
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            both = node.target, node.value
        else:
            continue
        if all(map(_is_watts, both)):
            yield node.lineno


def test_only_networks_know_their_kind():
    offenders = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path, room in _files()
        if room not in NETWORK_ROOMS
        for line, what in _asks_which_network(ast.parse(path.read_text()))
    ]
    assert not offenders, "\n".join(offenders)


def test_only_power_adds_watts():
    offenders = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, room in _files()
        if room != "power"
        for line in _adds_watts(ast.parse(path.read_text()))
    ]
    assert not offenders, "\n".join(offenders)


def test_the_guards_find_what_they_look_for():
    asked = (
        "spec.network.kind == 'packet'",
        "kind.kind in ('scheduled', 'x') or section.kind == 'scheduled'",
        "isinstance(spec.network, (int, PacketNetwork))",
        "hasattr(machine.network, 'layers')",
        "getattr(network, 'adapters', 0)",
        "TIMES[spec.network.kind](spec)",
    )
    for text in asked:
        assert list(_asks_which_network(ast.parse(text))), text
    for text in ("spec.chip.kind == 'lpu'", "network.bill()", "isinstance(x, int)"):
        assert not list(_asks_which_network(ast.parse(text))), text
    for text in ("idle_w + node.fan_w", "a['power_w'] + b_w", "2 * busy_w + fan_w", "total_w += fan_w"):
        assert list(_adds_watts(ast.parse(text))), text
    for text in ("busy_w - idle_w", "power_w / 2", "a_w * b_w", "energy_j + fan_w"):
        assert not list(_adds_watts(ast.parse(text))), text


def test_one_name_one_class():
    names = Counter(
        node.name
        for folder in ("dcsim", "dashboard", "validation")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert len(names) > 100
    assert {name: count for name, count in names.items() if count > 1} == {}
