"""Finds the files people name: an existing path wins, else a bare name (`8rack`) in the library.

The library is the checkout in an editable install and `dcsim/_library` in a wheel. What the current folder holds
under `topologies/` and `workloads/` (a copy made by `dcsim init`) comes before it.
"""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from typing import Any

from dcsim.errors import Problem, SpecError
from dcsim.writing import folders_for, scratch_folder, telling

DATA = ("topologies", "workloads")  # folders of files that people edit


def root() -> Path:
    """The folder that holds `topologies/`, `workloads/`, `dashboard/` and `validation/`."""
    packed = package() / "_library"
    return packed if packed.is_dir() else package().parent


def package() -> Path:
    """The folder of the package's own code."""
    return Path(__file__).resolve().parent


def files(folder: str) -> dict[str, Path]:
    """The files of a library folder such as `workloads/traces` by name, the current folder's own first."""
    shipped = {path.name: path for path in sorted((root() / folder).glob("*")) if path.is_file()}
    own = {path.name: path for path in sorted(Path(folder).glob("*")) if path.is_file()}
    return {**shipped, **own}


def names(folder: str) -> list[str]:
    """Bare names available in a library folder such as `topologies/chips`."""
    return sorted(name.removesuffix(".yaml") for name in files(folder) if name.endswith(".yaml"))


def find(name: str, folder: str, where: str = "command line") -> Path:
    """The file called `name` (a path, or a bare name in `folder`); SpecError with the nearest names if there is none."""
    path = Path(name).expanduser()
    if is_file(path):
        return path
    bare = path.stem if path.suffix in (".yaml", ".yml") else name
    packed = _entry(f"{bare}.yaml", folder)
    if packed is not None:
        return packed
    what = f"no file and no library entry '{name}' in {folder}"
    near = difflib.get_close_matches(bare, names(folder), n=3, cutoff=0.5)
    mend = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names(folder)) or 'none'}"
    raise SpecError(Problem(where, what, mend))


def _entry(name: str, folder: str) -> Path | None:
    """What `files` has under a name, without reading the folders: loading a topology asks for a dozen."""
    if Path(name).name != name:
        return None
    return next((path for path in (Path(folder) / name, root() / folder / name) if is_file(path)), None)


def is_file(path: Path) -> bool:
    """True if `path` is a file; a text that cannot be a path at all is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def copy_data(folder: Path) -> list[Path]:
    """Copy `topologies/` and `workloads/` into `folder` for editing, both or none; SpecError if one is there."""
    targets = [folder / name for name in DATA]
    for target in targets:
        if target.exists():
            raise SpecError(Problem(str(target), "is there already", "name a new or empty folder"))
        if folder.resolve().is_relative_to(root() / target.name):
            raise SpecError(Problem(str(folder), "is inside the library itself", "name another folder"))
    with telling(folder), folders_for(folder), scratch_folder(folder) as work:
        for name in DATA:
            _copy(root() / name, work / name)
        for target in targets:
            (work / target.name).rename(target)
    return targets


def _copy(source: Path, target: Path) -> None:
    """Copy a folder. `shutil.copytree` would go on after a full disk and then list every file."""
    target.mkdir()
    for entry in sorted(source.iterdir()):
        if entry.is_dir():
            _copy(entry, target / entry.name)
        else:
            shutil.copyfile(entry, target / entry.name)


def is_shipped(file: str | Path) -> bool:
    """Whether a file is the library's own, or a copy of one."""
    path, own = Path(file).resolve(), root()
    if path.is_relative_to(own):
        return True
    folders = (own / "topologies" / path.parent.name, own / "workloads" / path.parent.name, own / "workloads")
    return any((folder / path.name).is_file() and (folder / path.name).read_bytes() == path.read_bytes() for folder in folders)


def beside(module: str) -> Any:
    """A module of `dashboard/` or `validation/`, which lie beside the library. SpecError where an extra is missing."""
    import importlib
    import sys

    if str(root()) not in sys.path:
        sys.path.append(str(root()))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if module.startswith("dashboard") and error.name and not error.name.startswith(("dashboard.", "dcsim")):
            mend = "install it with: pip install 'dcsim[dashboard]'"
            raise SpecError(Problem("dashboard", f"the package '{error.name}' is not installed", mend)) from error
        raise
