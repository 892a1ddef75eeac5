"""Whatever is written is whole or not there: on a full disk, after Ctrl-C, after a kill, beside another writer."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import by_rule
import pytest
from command import ROOT, dcsim, everything_in, start

from dcsim import writing
from dcsim.errors import OutputError, RunStoreError
from dcsim.writing import whole_file, whole_folder, write_text

RULE = ("--set", by_rule.RULE)  # nothing is searched for, which is not kept where nothing can be written
SHORT_RUN = ("run", "64chip", *RULE, "--duration", "1 s")
# Every command that writes, with the place it writes to as the last word.
WRITERS = [
    (*SHORT_RUN, "--out", "out"),
    ("topology", "64chip", "--export", "out.graphml"),
    ("topology", "64chip", "--export", "out.json"),
    ("schedule", "node", *RULE, "--trace", "out.json.gz"),
    ("workload", "chat", "--figure", "out.html"),
    ("explain", "node", *RULE, "--figure", "out.html"),
    ("sweep", "64chip", *RULE, "--set-range", "mapping.tp=8", "--csv", "out.csv"),
    ("compare", "64chip", "--interconnect", "scheduled", "--figure", "out.html"),
    ("scale", "--interconnect", "scheduled", "--sizes", "64", "--figure", "out.html"),
    ("init", "out"),
]
PAGES = ("docs_pages", "out")


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    path.chmod(0o640)
    with whole_file(path) as part:
        part.write_text("ne")
        assert path.read_text() == "old"
        part.write_text("new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)
    assert everything_in(tmp_path) == ["a.txt"]


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "a").touch()
    write_text(tmp_path / "b", "")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("bug")])
def test_what_fails_leaves_what_was_there(tmp_path, error):
    write_text(tmp_path / "f", "old")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").touch()
    before = everything_in(tmp_path)
    for making, name in ((whole_file, "f"), (whole_file, "new"), (whole_folder, "d"), (whole_folder, "new/er/est")):
        with pytest.raises(OutputError if isinstance(error, OSError) else type(error)), making(tmp_path / name):
            raise error
    assert everything_in(tmp_path) == before
    assert (tmp_path / "f").read_text() == "old"


def test_a_link_goes_on_to_lead_where_it_led(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "f")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "f").read_text() == "x"


def test_a_device_stays_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "x" * 100_000)
    reader.join(10)
    assert read == ["x" * 100_000]
    assert (tmp_path / "pipe").is_fifo()


def killed(code, folder):
    """A process that runs `code` in `folder` and is killed once it prints something."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


MAKE = (
    "from dcsim.writing import whole_folder, whole_file\nimport time\n"
    "with whole_folder('runs/r') as work, whole_file('f') as part:\n"
    "    (work / 'rows').write_text('half'); part.write_text('half'); print('now', flush=True); time.sleep(60)\n"
)


def test_what_a_killed_process_left_is_swept_by_the_next_and_nobody_elses_work(tmp_path):
    making = killed(MAKE, tmp_path)
    process = next(making)
    write_text(tmp_path / "g", "")  # somebody else writes there meanwhile
    with whole_folder(tmp_path / "runs/s"):
        pass
    assert sum(".dcsim-" in name for name in everything_in(tmp_path)) == 3  # both are still being made, with one file inside
    assert process.poll() is None
    next(making, None)
    write_text(tmp_path / "g", "")
    with whole_folder(tmp_path / "runs/s"):
        pass
    assert everything_in(tmp_path) == ["g", "runs", "runs/s"]


def test_a_file_that_is_swept_as_it_is_made_is_made_again(tmp_path, monkeypatch):
    """Another process may look between a file's making and its lock."""
    made, make = [], writing._make_file

    def swept(path):
        make(path)
        made.append(path)
        if len(made) == 1:
            path.unlink()

    monkeypatch.setattr(writing, "_make_file", swept)
    write_text(tmp_path / "f", "whole")
    assert (len(made), (tmp_path / "f").read_text()) == (2, "whole")
    assert everything_in(tmp_path) == ["f"]


def test_a_run_killed_while_it_replaces_an_older_one_loses_neither(tmp_path):
    """The older one had been moved aside; the next writer puts it back."""
    with whole_folder(tmp_path / "r") as work:
        (work / "rows").write_text("old")
    code = (
        "import os, time\nreal = os.replace\ndef replace(a, b):\n"
        "    if '-old-' in str(a) or '-old-' in str(b): return real(a, b)\n"
        "    if os.path.exists(b): return real(a, b)\n"
        "    print('now', flush=True); time.sleep(60)\n"
        "os.replace = replace\nfrom dcsim.writing import whole_folder\nwith whole_folder('r') as work: (work / 'rows').touch()\n"
    )
    making = killed(code, tmp_path)
    next(making)
    assert not (tmp_path / "r").exists()
    next(making, None)
    write_text(tmp_path / "g", "")
    assert everything_in(tmp_path) == ["g", "r", "r/rows"]
    assert (tmp_path / "r" / "rows").read_text() == "old"


def test_many_write_one_folder_at_once(tmp_path):
    def write(number):
        for _ in range(20):
            with whole_folder(tmp_path / "r") as work:
                (work / "number").write_text(str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert everything_in(tmp_path) == ["r", "r/number"]


@pytest.fixture
def full(tmp_path):
    """A disk on which nothing more fits but names."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("needs the right to mount")
    try:
        with (tmp_path / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        yield tmp_path
    finally:
        os.chdir("/")
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def one_line(words, code, out, err, place):
    errors = [line for line in err.splitlines() if line.startswith("error: ")]  # among lines of progress
    assert (code, len(errors), "Traceback" in err) == (2, 1, False), err
    if words[0] == "sweep":  # its journal is the first that is written
        assert re.match(r"error: runs/sweeps/\w+\.jsonl: cannot be written: ", errors[0])
    else:
        assert errors[0].startswith(f"error: {place}: cannot be written: ")
    assert bool(out) == (words[0] in ("workload", "explain", "compare", "scale"))  # the answer is not lost


# The writers that draw take plotly's start each.
DRAWING = [pytest.param(words, marks=pytest.mark.slow) for words in WRITERS if words[0] in ("explain", "compare", "scale")]


@pytest.mark.parametrize(
    "words",
    [*(words for words in WRITERS if words[0] not in ("explain", "compare", "scale")), *DRAWING],
    ids=lambda words: " ".join(words[:2] + words[-1:]),
)
def test_a_full_disk_is_one_line_and_leaves_nothing(full, words):
    code, out, err = dcsim(*words, cwd=full)
    one_line(words, code, out, err, words[-1])
    assert "make room" in err
    assert everything_in(full) == ["filler"]


def test_a_saved_run_cannot_be_exported_to_a_full_disk(full, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    assert dcsim(*SHORT_RUN, "--out", "r", cwd=runs)[0] == 0
    for form in ("vllm", "perfetto"):
        words = ("export", str(runs / "r"), "--format", form, "--out", "out.json")
        one_line(words, *dcsim(*words, cwd=full), "out.json")
    assert everything_in(full) == ["filler"]


@pytest.mark.parametrize("words", [*WRITERS[:2], WRITERS[3], WRITERS[6]], ids=lambda words: " ".join(words[:2]))
def test_a_limit_on_file_sizes_is_told_the_same_way(tmp_path, words):
    """As a quota would be: the error comes from the write, not from the making of the file."""
    process = start(
        *words,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        environment={"NUMBA_DISABLE_CACHING": ""},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)),
    )
    out, err = process.communicate(timeout=300)
    one_line(words, process.returncode, out, err, words[-1])
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("words", [("topology", "node"), ("topology", "node", "--json"), ("--help",), ("workload", "chat")])
def test_stdout_that_takes_nothing_is_one_line(tmp_path, words):
    with open("/dev/full", "w") as full:
        process = start(*words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=60)
    lines = [line for line in err.splitlines() if not line.startswith("compiling ")]  # for the first time, perhaps
    assert (process.returncode, lines) == (2, ["error: stdout: cannot be written: No space left on device"])


@pytest.mark.parametrize("place", ["nosuch/out", "file/out", "folder", "/proc/out"])
@pytest.mark.parametrize("words", [words for words in WRITERS[1:] if words[0] != "init"], ids=lambda words: words[0])
def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path, words, place, monkeypatch, capsys):
    from dcsim.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    name = place if place == "folder" else f"{place}.{words[-1].partition('.')[2]}"
    monkeypatch.setattr(sys, "argv", ["dcsim", *words[:-1], name])
    monkeypatch.setattr("dcsim.spec.load.load", lambda *_, **__: pytest.fail("the work has begun"))
    with pytest.raises(SystemExit):
        main()
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith(f"error: {name}: cannot be written: ")
    assert everything_in(tmp_path) == ["file", "folder"]


def test_pages_and_stored_rows_too(full):
    from validation import docs_pages, store
    from validation.claims import FOLDER, read_claims

    os.chdir(full)
    for write in (lambda: docs_pages.main("."), lambda: store.write(read_claims(FOLDER)[0], "v", {})):
        with pytest.raises(OutputError, match="No space left"):
            write()
    assert [name for name in everything_in(full) if not Path(full, name).is_dir()] == ["filler"]


def test_no_writer_goes_another_way():
    """Files are opened for writing in `writing`, or under a path that it gave; but logs grow line by line."""
    opens = re.compile(r"\.(write_text|write_bytes|to_csv|to_parquet|write_html)\(|open\([^)]*[\"'][wax]b?[\"']|mkstemp|\.part\b")
    given = re.compile(r"\b(part|work|file)\b")
    for folder in ("dcsim", "dashboard", "validation"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if (
                    path.name != "writing.py"
                    and '.log").open("ab")' not in line
                    and opens.search(line)
                    and not line.lstrip().startswith(("#", "def "))
                ):
                    assert given.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


def test_a_run_that_cannot_be_replaced_keeps_the_older(tmp_path, monkeypatch):
    with whole_folder(tmp_path / "r") as work:
        (work / "rows").write_text("old")
    moves = []

    def replace(source, target):
        moves.append(target)
        if len(moves) == 3:
            raise OSError(5, "Input/output error")
        real(source, target)

    real = os.replace
    monkeypatch.setattr(writing.os, "replace", replace)
    with pytest.raises(RunStoreError, match="Input/output"), whole_folder(tmp_path / "r", RunStoreError):
        pass
    assert (tmp_path / "r" / "rows").read_text() == "old"
    assert everything_in(tmp_path) == ["r", "r/rows"]


def test_interrupted_writes_leave_nothing(tmp_path):
    """Ctrl-C in the command line unwinds nothing, and still nothing half written is left."""
    code = (
        "import sys, time\nfrom dcsim.interrupt import ends_on_signals\nfrom dcsim.writing import whole_folder, whole_file\n"
        "with ends_on_signals(), whole_folder('runs/r') as work, whole_file('f') as part:\n"
        "    (work / 'rows').write_text('half'); part.write_text('half'); print('now', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdout.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert (process.returncode, err) == (130, "interrupted; nothing was written\n")
    assert everything_in(tmp_path) == []
