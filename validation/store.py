"""Rows already computed: one JSON file a row and version, so that a second look takes a moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcsim import library
from dcsim.writing import telling, write_text
from validation.claims import Claim

FOLDER = Path("runs/validate")

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


def _path(claim: Claim, of: str) -> Path:
    asked = [of, claim.run, dict(claim.arguments), claim.published, claim.kind, claim.ranges, dict(claim.unstated)]
    text = json.dumps(asked, sort_keys=True)
    return FOLDER / f"{claim.id}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
