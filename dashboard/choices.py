"""What the forms offer: entries of the library, and files that were brought, which come first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from dashboard import uploads
from dashboard.runs import store
from dcsim import library
from dcsim.errors import DcsimError

# Folder of the library, and the endings of brought files, for each part of a scenario.
OFFERED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "topology": ("topologies", (".yaml", ".yml")),
    "llm": ("workloads/llms", (".yaml", ".yml", ".json")),
    "workload": ("workloads", (".yaml", ".yml", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")),
    "interconnect": ("topologies/networks", (".yaml", ".yml")),
}
OWN = "the topology's own"


def folder() -> Any:
    """Where brought files lie."""
    return store().folder / ".dashboard" / "uploads"


def brought(part: str) -> list[str]:
    """Files that were brought and may be this part of a scenario."""
    return [name for name in uploads.kept(folder()) if name.endswith(OFFERED[part][1])]


def options(part: str, *, own: str | None = None) -> list[dict[str, str]]:
    """What a select offers; `own` is said of the empty choice, where there is one."""
    first = [] if own is None else [{"value": "", "label": own}]
    mine = [{"value": name, "label": f"{name} (brought)"} for name in brought(part)]
    return [*first, *mine, *({"value": name, "label": name} for name in library.names(OFFERED[part][0]))]


def one(part: str, *, empty: bool = True) -> Callable[[str], str]:
    """Reads the name of an entry or of a brought file; nothing stands for the topology's own."""

    def read(text: str) -> str:
        if not (text or empty) or (text and text not in _known(part)):
            raise ValueError(f"a {part} of the library or a file that was brought")
        return text

    return read


def some(part: str) -> Callable[[str], list[str]]:
    """Reads names with commas between; none stands for all."""

    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if len(set(names)) < len(names) or not set(names) <= _known(part):
            raise ValueError(f"some {part} of the library or files that were brought")
        return names

    return read


def _known(part: str) -> set[str]:
    return {*library.names(OFFERED[part][0]), *brought(part)}


def text_that(check: Callable[[str], Any], wanted: str, *, length_max: int = 200) -> Callable[[str], str]:
    """Reads a text that `check` takes, or none; `wanted` says what would do."""

    def read(text: str) -> str:
        if len(text) > length_max:
            raise ValueError(f"{wanted}, of at most {length_max:,} characters")
        if text.strip():
            try:
                check(text.strip())
            except (ValueError, DcsimError):
                raise ValueError(wanted) from None
        return text.strip()

    return read


def _settings(words: str) -> None:
    if not all("=" in line for line in words.splitlines() if line.strip()):
        raise ValueError


settings_text = text_that(_settings, "lines of key=value", length_max=2000)  # as `--set` takes one of them


def contents(names: list[str | None]) -> dict[str, str]:
    """A digest of each brought file among the names, so that an answer is not taken for that of other contents."""
    here = set(uploads.kept(folder()))
    mine = sorted({name for name in names if name in here and name})
    return {name: hashlib.sha256((folder() / name).read_bytes()).hexdigest()[:12] for name in mine}
