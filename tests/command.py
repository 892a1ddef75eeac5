"""The command line as a newcomer meets it, in this process or in one of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start(*arguments, cwd, environment=None, **options):
    """A process that runs `dcsim` with `arguments` in the folder `cwd`, from this checkout."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "dcsim", *arguments],
        cwd=cwd,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        **options,
    )


def dcsim(*arguments, cwd, environment=None):
    """Exit code, stdout and stderr of `dcsim` in a process of its own."""
    process = start(*arguments, cwd=cwd, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def everything_in(folder):
    """Every file and folder below, hidden ones included."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def alive(pid):
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return _state(pid)[0] != "Z"
    except OSError:
        return False


def children(pid):
    """Processes below `pid`, at any depth."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(_state(name)[1])
        except OSError:  # it has ended
            continue
        if parent == pid:
            found += [int(name), *children(int(name))]
    return found


def _state(pid):
    """A process's state, its parent, and more."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
