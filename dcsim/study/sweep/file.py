"""A sweep from its file."""

from __future__ import annotations

from pathlib import Path

from dcsim.library import is_file
from dcsim.spec.check import check
from dcsim.spec.document import Document, read_document
from dcsim.spec.sweep import SweepSpec


def document_if_sweep(name: str) -> Document | None:
    """What a sweep's file says; None for what is no file, or another kind of file: a topology names no topology."""
    path = Path(name).expanduser()
    if not is_file(path) or path.suffix not in (".yaml", ".yml"):
        return None
    document = read_document(path)
    return document if "topology" in document.data else None


def checked(document: Document) -> SweepSpec:
    """The sweep that a document describes. SpecError with every problem, each with its line."""
    return check(document, [], SweepSpec)
