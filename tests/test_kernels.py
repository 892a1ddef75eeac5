"""Compiled functions are found again exactly as long as nothing that they are made of has changed."""

import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dcsim.kernels import kept
from dcsim.kernels.jit import entry, part
from dcsim.kernels.made_of import fingerprint, functions_of
from dcsim.kernels.progress import watched
from dcsim.writing import one_at_a_time

ROOT = Path(__file__).resolve().parents[1]

TOY = {
    "toy_numbers.py": "SCALE = 10\nTABLE = (1, 2)\n",
    "toy_callee.py": """
        from dcsim.kernels.jit import leaf, part
        import toy_numbers

        @part
        def add(x):
            return step(x) + toy_numbers.TABLE[1]

        @leaf
        def step(x):
            return x + 1
        """,
    "toy_kernel.py": """
        from toy_callee import add
        from toy_numbers import SCALE
        from dcsim.kernels.jit import entry

        @entry
        def run(x):
            return add(x) * SCALE
        """,
    "toy.py": """
        from toy_kernel import run
        from dcsim.kernels.progress import watched

        compiled = []
        with watched(lambda entry, begun, total: compiled.append(begun)):
            result = run(1)
        print(result, max(compiled, default=0))
        """,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "own"))


@pytest.fixture
def toy(tmp_path):
    """Runs the toy in a process of its own, with a cache of its own: (result, functions compiled)."""
    for name, text in TOY.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    settings = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    def start(**more):
        return subprocess.Popen(
            [sys.executable, "toy.py"], cwd=tmp_path, env=os.environ | settings | more, stdout=subprocess.PIPE, text=True
        )

    def run(**more):
        process = start(**more)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        return tuple(map(int, out.split()))

    run.start, run.folder = start, tmp_path
    return run


def edit(path, before, after):
    """Change a file and nothing else about it: its times stay as they were."""
    info, text = path.stat(), path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_an_edit_of_a_callee_or_a_constant_in_another_file_is_seen_by_the_next_process(toy):
    folder = toy.folder
    assert toy() == (40, 3)
    assert toy() == (40, 0)  # kept
    edit(folder / "toy_callee.py", "x + 1", "x + 2")
    assert toy() == (50, 3)
    edit(folder / "toy_numbers.py", "SCALE = 10", "SCALE = 20")
    assert toy() == (100, 3)
    edit(folder / "toy_numbers.py", "(1, 2)", "(1, 7)")
    assert toy() == (200, 3)
    edit(folder / "toy_callee.py", "x + 2", "x + 1")  # as another branch had it
    edit(folder / "toy_numbers.py", "(1, 7)", "(1, 2)")
    edit(folder / "toy_numbers.py", "SCALE = 20", "SCALE = 10")
    assert toy() == (40, 3)
    edit(folder / "toy_callee.py", "step(x) +", "step(x)  +")  # nothing that is run
    assert toy() == (40, 0)
    assert len(kept_files(folder)) == 1  # earlier makes went as new ones came


def kept_files(folder):
    """Those with machine code, without those that others wait at."""
    return [path for path in (folder / "cache").rglob("*") if path.is_file() and path.suffix != ".turn"]


def test_of_two_processes_one_compiles_and_the_other_waits_for_it(toy):
    both = [toy.start(), toy.start()]
    done = [process.communicate(timeout=120)[0].split() for process in both]
    assert [result for result, _ in done] == ["40", "40"]
    assert sorted(int(compiled) for _, compiled in done)[1] == 3
    (file,) = kept_files(toy.folder)
    made_ns = file.stat().st_mtime_ns
    assert toy() == (40, 0)
    assert file.stat().st_mtime_ns == made_ns


def test_who_waits_takes_what_was_made_meanwhile(toy):
    """A process finds the turn taken; when it is its own, what it wanted has been made."""
    assert toy() == (40, 3)
    (file,) = kept_files(toy.folder)
    aside = file.rename(file.with_name("aside"))
    (turn,) = (toy.folder / "cache").rglob("*.turn")
    with one_at_a_time(turn):
        waiting = toy.start()
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.communicate(timeout=4)
        aside.rename(file)
    assert waiting.communicate(timeout=120)[0].split() == ["40", "0"]


def test_a_turn_of_a_process_that_is_gone_is_over(toy):
    script = "import sys, time; from dcsim.writing import one_at_a_time\nfrom pathlib import Path\n"
    script += "with one_at_a_time(Path('turn')): print('mine', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", script], cwd=toy.folder, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "mine\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with one_at_a_time(toy.folder / "turn"):
        pass


@pytest.mark.parametrize("how", ["cut short", "emptied", "other bytes"])
def test_a_broken_file_is_compiled_anew(toy, how):
    assert toy() == (40, 3)
    (file,) = kept_files(toy.folder)
    content = file.read_bytes()
    file.write_bytes({"cut short": content[:-100], "emptied": b"", "other bytes": content[:-1] + b"\0"}[how])
    assert toy() == (40, 3)
    assert toy() == (40, 0)


def test_where_nothing_can_be_written_it_is_compiled_each_time(toy):
    (toy.folder / "file").write_text("no folder")
    assert toy(NUMBA_CACHE_DIR=str(toy.folder / "file")) == (40, 3)
    assert toy(NUMBA_CACHE_DIR=str(toy.folder / "file")) == (40, 3)


def test_a_package_that_cannot_be_written_keeps_its_kernels_in_the_users_cache_or_a_private_folder(tmp_path):
    """Its `__pycache__` is no folder here, which stops the superuser too."""
    shutil.copytree(ROOT / "dcsim", tmp_path / "dcsim", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "dcsim" / "__pycache__").write_text("no folder")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = "from dcsim.kernels import kept; kept.write('f', 'made', 'kind', b'x'); print(kept.read('f', 'made', 'kind'))"

    def keeps(**settings):
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "TMPDIR": str(temporary), **settings}
        done = subprocess.run([sys.executable, "-B", "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert (done.stdout.strip(), done.stderr) == ("b'x'", "")

    keeps(HOME=str(tmp_path / "home"))
    assert list((tmp_path / "home/.cache/dcsim").rglob("f-made-kind.*"))
    keeps(HOME=str(tmp_path / "home"), XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert list((tmp_path / "xdg").rglob("f-made-kind.*"))
    keeps(HOME="/dev/null")
    (private,) = temporary.glob("dcsim-*")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_what_others_may_have_put_among_temporary_files_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(kept.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(kept, "places", lambda: iter([tmp_path / "dcsim-1"]))
    assert kept.write("f", "made", "kind", b"x")
    assert kept.read("f", "made", "kind") == b"x"
    (tmp_path / "dcsim-1").chmod(0o777)
    assert kept.read("f", "made", "kind") is None
    assert not kept.write("f", "other", "kind", b"x")


def test_clear_removes_all_that_is_kept_for_this_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    kept.write("f", "made", "kind", b"x")
    kept.clear()
    assert list(tmp_path.iterdir()) == []


def _plain(x):
    return x + 1


@part
def _part(x):
    return _plain_constant + x


_plain_constant = 3


@entry
def _entry(x):
    return _part(x) + 1


def test_a_part_cannot_be_called_from_python():
    with pytest.raises(TypeError, match="_part is a part, which only kernels call"):
        _part(1)


@entry
def _wide(x):
    return _part(x) + _part(np.int8(x)) - _part(2)


def test_narrow_integers_and_constants_need_no_make_of_their_own():
    assert _wide(np.int32(1)) == 1 + 1 - 2 + 3
    assert len(_part.overloads) == 1


def test_what_a_kernel_is_made_of_is_known_or_refused(monkeypatch):
    assert functions_of(_entry) == 2
    before = fingerprint(_entry)
    monkeypatch.setitem(globals(), "_plain_constant", 4)
    assert fingerprint(_entry) != before
    monkeypatch.setitem(globals(), "_plain_constant", 3)
    assert fingerprint(_entry) == before
    monkeypatch.setitem(globals(), "_plain_constant", {"a": 1})
    with pytest.raises(TypeError, match="cannot name a dict"):
        fingerprint(_entry)


def test_a_watcher_hears_of_every_function_and_of_the_end():
    @part
    def inner(x):
        return x * 2

    globals()["_inner"] = inner

    heard = []
    with watched(lambda *words: heard.append(words)):
        _watched(1)
        _watched(2)
    name = f"{__name__}._watched"
    assert heard == [(name, 1, 2), (name, 2, 2), (name, 2, 2)]


@entry
def _watched(x):
    return _inner(x)  # noqa: F821 - made by the test, so that it is compiled there


# A small job of each engine, and an edit of a function in another file than the one it enters by.
ENGINES = {
    "service pool": (
        ["run", "64chip", "--duration", "5 s", "--set", "engine=compiled", "--out", "served"],
        ("cluster/fast/rounds_kernel.py", "request[c.FINISHED] = now +", "request[c.FINISHED] = now + 10**9 +"),
    ),
    "packet engine": (
        ["collective", "h100x16"],
        ("network/packet/engine/link_kernel.py", "row.tail = end +", "row.tail = end + 1000 +"),
    ),
    "schedule compiler": (
        ["collective", "node"],
        ("network/scheduled/flows_kernel.py", "+ ways.hop + ways.receive\n", "+ ways.hop + ways.receive + 900\n"),
    ),
    "schedule compiler, an imported constant": (
        ["collective", "node", "--op", "send", "--bytes", "1MiB"],
        ("network/scheduled/flows_kernel.py", "PATHS_MAX = 32", "PATHS_MAX = 3"),
    ),
}


@pytest.mark.slow  # compiles an engine twice
@pytest.mark.parametrize("engine", ENGINES)
def test_an_edited_engine_gives_the_edited_result(engine, tmp_path):
    words, (file, before, after) = ENGINES[engine]
    shutil.copytree(ROOT / "dcsim", tmp_path / "dcsim", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("topologies", "workloads"):
        (tmp_path / folder).symlink_to(ROOT / folder)

    def answer():
        done = subprocess.run(
            [sys.executable, "-B", "-m", "dcsim", *words, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), "compiling" in done.stderr

    first, compiled = answer()
    assert compiled
    assert answer() == (first, False)
    edit(tmp_path / "dcsim" / file, before, after)
    edited, compiled = answer()
    assert compiled
    assert edited != first
    assert answer() == (edited, False)
    edit(tmp_path / "dcsim" / file, after, before)
    assert answer() == (first, True)
