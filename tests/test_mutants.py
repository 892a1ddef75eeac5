"""The tool that plants faults: which it finds, that each is one, and that a fault no test notices is told."""

from __future__ import annotations

import ast
from collections import Counter
from itertools import accumulate

import mutants
import pytest

SOURCE = '''"""A text of 1 + 1."""
LIMIT: int = 3

def wide(a: list[int], b: int = 2) -> int:
    """Not 1 < 2."""
    total = 0
    for x in a:
        if x < b and not x == 7:
            continue
        total += x * b
    a[0] = total
    print(f"{total + 1}")
    return a[b] if total is None or True else -total
'''


def test_every_kind_of_fault_is_found_once_where_it_counts() -> None:
    found = mutants.mutants_of("x.py", SOURCE)
    kinds = Counter(mutant.kind for mutant in found)
    assert kinds == {"comparison": 3, "boolean": 3, "arithmetic": 3, "constant": 6, "index": 1, "deletion": 4}
    told = {mutant.shown(SOURCE) for mutant in found}
    assert ("x < b", "(x <= b)") in told
    assert ("total += x * b", "total -= x * b") in told
    assert ("total += x * b", "pass") in told
    assert ("b", "(b) - 1") in told
    assert all("1 + 1" not in before for before, _ in told)


def test_each_fault_leaves_a_module_that_can_be_read_and_differs() -> None:
    """Read is the function or class that the fault is in: the rest of the module is as it was."""
    for module in mutants.modules():
        source = (mutants.ROOT / "dcsim" / module).read_text()
        lines = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
        parts = [(lines[node.lineno - 1], lines[node.end_lineno]) for node in ast.parse(source).body]
        as_it_is = {part: ast.dump(ast.parse(source[slice(*part)])) for part in parts}
        for mutant in mutants.mutants_of(module, source):
            begin, end = next(part for part in parts if part[0] <= mutant.start < part[1])
            assert mutant.end <= end
            faulty = mutant.applied(source)[begin : end + len(mutant.text) - (mutant.end - mutant.start)]
            assert ast.dump(ast.parse(faulty)) != as_it_is[begin, end], mutant


def test_precedence_stays() -> None:
    source = "x = a * b * c\n"
    inner = next(m for m in mutants.mutants_of("x.py", source) if m.shown(source)[0] == "a * b")
    assert eval(inner.applied(source)[4:], {"a": 2, "b": 3, "c": 5}) == 25


def test_what_only_checks_is_left_as_it_is() -> None:
    found = mutants.mutants_of("x.py", "for a, b in zip(x, y, strict=True):\n    f(a, b, strictly=True)\n")
    assert [(mutant.line, mutant.kind) for mutant in found] == [(2, "deletion"), (2, "constant")]


def test_a_number_below_zero_is_one_number() -> None:
    found = mutants.mutants_of("x.py", "NOBODY = -1\nLEAST = -2.5 + -x\n")
    shown = [mutant.shown("NOBODY = -1\nLEAST = -2.5 + -x\n") for mutant in found]
    assert shown == [("-1", "0"), ("-2.5", "-1.5"), ("-2.5 + -x", "(-2.5 - -x)"), ("-x", "(x)")]


def test_a_seed_names_its_faults() -> None:
    of = ["results/metrics.py", "llm/cost.py"]
    assert mutants.draw(3, 10, of) == mutants.draw(3, 10, of) != mutants.draw(4, 10, of)
    assert len(set(mutants.draw(3, 10**6, of))) == sum(
        len(mutants.mutants_of(module, (mutants.ROOT / "dcsim" / module).read_text())) for module in of
    )


def test_a_fault_is_planted_in_the_copy_alone_and_seen_by_the_tests(tmp_path) -> None:
    copy = mutants.Copy.__new__(mutants.Copy)
    copy.folder = tmp_path
    (tmp_path / "dcsim").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "dcsim" / "__init__.py").touch()
    module, source = tmp_path / "dcsim" / "double.py", "def double(x):\n    return x * 2\n"
    module.write_text(source)
    test = tmp_path / "tests" / "test_double.py"
    for value, noticed in ((3, "test_double.py::test"), (2, "")):  # 2 * 2 is 2 + 2
        test.write_text(f"from dcsim.double import double\ndef test(): assert double({value}) == {2 * value}\n")
        product = next(m for m in mutants.mutants_of("double.py", source) if m.kind == "arithmetic")
        assert copy.plant(product, ["test_double.py"], 60).test == noticed
        assert module.read_text() == source


def test_every_listed_module_is_there_with_tests() -> None:
    assert all(mutants.modules().values())
    for pattern in mutants.NEAREST:
        assert list((mutants.ROOT / "dcsim").glob(pattern)), pattern


@pytest.mark.parametrize("entry", mutants.EQUIVALENT or [None])
def test_what_is_held_equivalent_can_still_be_planted(entry: tuple[str, str, str] | None) -> None:
    if entry is None:
        return
    module, line, text = entry
    source = (mutants.ROOT / "dcsim" / module).read_text()
    lines = source.splitlines()
    assert any(m.text == text and lines[m.line - 1].strip() == line for m in mutants.mutants_of(module, source)), entry
