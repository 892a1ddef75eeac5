"""Files that people bring: kept under plain names in the store, read in a process of their own with limits."""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from dcsim import library
from dcsim.writing import whole_file

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
ENDINGS = (".yaml", ".yml", ".json", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
SIZE_MAX = 4 << 20
FILES_MAX = 200
MEMORY_MAX, SECONDS_MAX = 4 << 30, 30


class UploadError(ValueError):
    """A file that is not taken, and why."""


def keep(folder: Path, name: str, content: str) -> str:
    """Keep an upload (as the browser sends it: `data:...;base64,...`); returns the name it has in the folder."""
    plain = name.replace("\\", "/").rpartition("/")[2]
    if not NAME.fullmatch(plain) or not plain.endswith(ENDINGS):
        raise UploadError(f"a file's name has letters, digits, dots and dashes, and ends in {', '.join(ENDINGS)}")
    _, _, packed = content.partition(",")
    if len(packed) > SIZE_MAX * 4 // 3 + 4:
        raise UploadError(f"{plain}: larger than {SIZE_MAX >> 20} MiB")
    try:
        data = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UploadError(f"{plain}: did not arrive whole") from error
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.iterdir())) >= FILES_MAX and not (folder / plain).exists():
        raise UploadError(f"there are {FILES_MAX} uploads already; remove some of {folder.name}")
    with whole_file(folder / plain) as part:
        part.write_bytes(data)
    return plain


def kept(folder: Path) -> list[str]:
    """Names of the files that were brought."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink() and NAME.fullmatch(path.name)
    )


def check(store: Path, ask: dict[str, Any]) -> list[dict[str, str]]:
    """What is wrong with a scenario, each with where and how to mend it; none if it can be served."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from dashboard.uploads import main; main(sys.argv[2])"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(library.root()), str(store)],
            input=json.dumps(ask),
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX + 5,
        )
        found: list[dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return [
            {
                "where": "files",
                "what": f"reading them took more than {SECONDS_MAX} s or {MEMORY_MAX >> 30} GiB",
                "mend": "make them smaller",
            }
        ]
    return found


def main(store: str) -> None:
    """Read the scenario on stdin within limits and print its problems."""
    import resource

    from dashboard.fence import fence
    from dcsim.errors import DcsimError, SpecError

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    ask = json.load(sys.stdin)
    problems: list[dict[str, str]] = []
    try:
        with fence(Path(store)):
            loaded(Path(store), ask)
    except SpecError as error:
        own = [{"where": p.where, "what": p.what, "mend": p.mend or ""} for p in getattr(error, "problems", ())]
        problems = own or [{"where": "scenario", "what": str(error), "mend": ""}]
    except DcsimError as error:
        problems = [{"where": "scenario", "what": str(error), "mend": ""}]
    except MemoryError:
        problems = [{"where": "files", "what": "reading them takes too much memory", "mend": "make them smaller"}]
    sys.stdout.write("\n" + json.dumps(problems) + "\n")


def path_of(store: Path, name: str | None) -> str | None:
    """A name as the library takes it: the path of a file that was brought, else the name itself; None for no name."""
    folder = store / ".dashboard" / "uploads"
    return str(folder / name) if name and name in kept(folder) else name or None


def loaded(store: Path, ask: dict[str, Any]) -> Any:
    """The scenario that a form asks for; uploads are found by their names. Raises SpecError and WorkloadError."""
    from dcsim.study.scenario import load

    return load(
        path_of(store, ask["topology"]) or "",
        llm=path_of(store, ask.get("llm")),
        workload=path_of(store, ask.get("workload")),
        interconnect=path_of(store, ask.get("interconnect")),
        set=[line.strip() for line in ask.get("settings", []) if line.strip()],
        duration=ask.get("duration") or None,
        rate=ask.get("rate") or None,
    )
