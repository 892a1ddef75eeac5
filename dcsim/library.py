"""Finds the files people name: an existing path wins, else a bare name (`8rack`) in the library.

In an editable install the library is the checkout; in a wheel it is `dcsim/_library`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from dcsim.errors import Problem, SpecError


def root() -> Path:
    """The folder that holds `topologies/`, `workloads/` and `dashboard/`."""
    here = Path(__file__).resolve().parent
    packed = here / "_library"
    return packed if packed.is_dir() else here.parent


def names(folder: str) -> list[str]:
    """Bare names available in a library folder such as `topologies/chips`."""
    return sorted(path.stem for path in (root() / folder).glob("*.yaml"))


def find(name: str, folder: str, where: str = "command line") -> Path:
    """The file called `name` (a path, or a bare name in `folder`); SpecError with the nearest names if there is none."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    packed = root() / folder / f"{path.stem if path.suffix in ('.yaml', '.yml') else name}.yaml"
    if packed.is_file():
        return packed
    near = difflib.get_close_matches(path.stem, names(folder), n=3, cutoff=0.5)
    mend = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names(folder)) or 'none'}"
    raise SpecError(Problem(where, f"no file and no library entry '{name}' in {folder}", mend))


def dashboard_app() -> Any:
    """The function `make_app(run_folder)` of `dashboard/app.py`, which lives beside the library."""
    import importlib
    import sys

    if str(root()) not in sys.path:
        sys.path.append(str(root()))
    try:
        return importlib.import_module("dashboard.app").make_app
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("dash"):
            mend = "install it with: pip install 'dcsim[dashboard]'"
            raise SpecError(Problem("dashboard", f"the package '{error.name}' is not installed", mend)) from error
        raise
