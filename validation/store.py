"""Rows already computed: one JSON file a row and version, so that a second look takes a moment.

`kept.json` beside this file has what a reader sees of each row, as the validation page was last written, by that version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from dcsim import library
from dcsim.writing import telling, write_text
from validation.claims import Claim

FOLDER = Path("runs/validate")
KEPT = Path(__file__).with_name("kept.json")
SHOWN = ("simulated", "ratio", "verdict")  # of a row, on a page

# Code that shows results and computes none.
SHOWS_ONLY = ("cli/*", "results/pictures.py", "results/export.py", "docs_pages.py", "page.py")


def version() -> str:
    """Hash of all code and data a row may rest on: any change computes every row again."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(str(path.name).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    data = library.root()
    for code in (library.package(), Path(__file__).resolve().parent):
        yield from (p for p in sorted(code.rglob("*.py")) if not any(p.relative_to(code).match(only) for only in SHOWS_ONLY))
    for folder, pattern in ((data / "topologies", "*.yaml"), (data / "workloads", "*")):
        yield from (path for path in sorted(folder.rglob(pattern)) if path.is_file())


def read(claim: Claim, of: str) -> dict[str, Any] | None:
    """The stored row, if it was computed by this version."""
    try:
        stored = json.loads(_path(claim, of).read_text())
    except (OSError, ValueError):
        return None
    return stored if isinstance(stored, dict) else None


def write(claim: Claim, of: str, row: dict[str, Any]) -> None:
    """Keep a row; a reader never sees half of it."""
    path = _path(claim, of)
    with telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(row))


def keep(claims: Sequence[Claim], rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Have what a reader sees of the rows (by id) come with the package, as this version computed them."""
    kept = {claim.id: {"asked": _asked(claim, ""), **{name: rows[claim.id][name] for name in SHOWN}} for claim in claims}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(row)}" for name, row in kept.items())
    write_text(KEPT, f'{{"version": "{version()}", "rows": {{\n{lines}\n}}}}\n')


def kept(claim: Claim, of: str) -> tuple[dict[str, Any], bool] | None:
    """What a reader sees of the row that came with the package, and whether version `of` computed it; None if there is none."""
    found = _read_kept()
    row = found["rows"].get(claim.id)
    return (row, found["version"] == of) if row and row["asked"] == _asked(claim, "") else None


@cache
def _read_kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.is_file() else {"version": "", "rows": {}}
    return found


def _path(claim: Claim, of: str) -> Path:
    return FOLDER / f"{claim.id}-{_asked(claim, of)}.json"


def _asked(claim: Claim, of: str) -> str:
    """Names what the row is and what it is judged by."""
    asked = [of, claim.run, dict(claim.arguments), claim.published, claim.kind, claim.ranges, dict(claim.unstated)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
