"""What is written is written whole or not at all.

A file or folder is made beside its place under a name of its own (`.dcsim-...`), and takes the place in one step when it
is complete. Whatever ends the work before (a full disk, an error, Ctrl-C) removes it. A process that is killed cannot; so each
holds a lock on what it is making, and whoever writes there next removes what nobody holds.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dcsim.errors import OutputError
from dcsim.interrupt import tell_written, undisturbed

try:
    import fcntl
except ImportError:  # not on this system: nothing is locked, and nothing of others is removed
    fcntl = None  # type: ignore[assignment]  # a module's name cannot be declared optional

_PREFIX = ".dcsim-"
_OLD = ".dcsim-old-"  # what is being replaced, with its name at the end

_MENDS = {
    errno.ENOSPC: "make room, or name a place on another disk",
    errno.EDQUOT: "make room, or name a place on another disk",
    errno.EFBIG: "make it smaller, or raise the limit on a file's size",
    errno.EACCES: "name a place you may write to",
    errno.EPERM: "name a place you may write to",
    errno.EROFS: "name a place you may write to",
    errno.ENOENT: "make its folder first",
    errno.ENOTDIR: "name a place in a folder",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "give it a shorter name",
}

_making: dict[Path, int] = {}  # what this process is making now, with the lock's file descriptor (-1: none)
_turns: set[Path] = set()  # that this process has
_folders: dict[int, list[Path]] = {}  # made for it, each in the one before


@contextmanager
def telling(place: str | Path, kind: type[OutputError] = OutputError) -> Iterator[None]:
    """Within the block, what goes wrong with files is an error of `kind` that names `place`, the reason and the mend."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        reason = (os.strerror(number) if number else str(error)) or type(error).__name__
        mend = f"; {_MENDS[number]}" if number in _MENDS else ""
        raise kind(f"{place}: cannot be written: {reason}{mend}") from error


def require_writable(path: Path) -> None:
    """Refuse before the work is done what could not be written after it. OutputError; makes nothing."""
    with telling(path):
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not target.exists() or target.is_file():
            with tempfile.TemporaryFile(dir=target.parent):
                pass


@contextmanager
def whole_file(path: str | Path, *, told: bool = True) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well. OutputError where that is not possible.

    Unless `told`, an interrupted command does not say that the file is there. What is no ordinary file, such as /dev/stdout, gets
    the bytes and stays what it is. A link goes on to lead there.
    """
    with telling(path):
        target = Path(os.path.realpath(path))
        ordinary = target.is_file() or not target.exists()
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        place = target.parent if ordinary else Path(tempfile.gettempdir())
        with _made(place, _make_file) as part:
            yield part
            if ordinary:
                if target.exists():
                    part.chmod(stat.S_IMODE(target.stat().st_mode))
                _to_disk(part)
                part.replace(target)
                if told:
                    tell_written(path)
            else:
                with part.open("rb") as source, target.open("wb") as device:
                    shutil.copyfileobj(source, device)


@contextmanager
def whole_folder(path: str | Path, kind: type[OutputError] = OutputError) -> Iterator[Path]:
    """An empty folder to fill, which becomes `path` when the block ends well, in place of a folder that is there.

    Folders above it are made, and removed again if the block fails. Raises an error of `kind` where that is not possible.
    """
    with telling(path, kind):
        target = Path(os.path.realpath(path))
        with folders_for(target.parent), _made(target.parent, _make_folder) as work:
            yield work
            for file in work.iterdir():
                _to_disk(file)
            with undisturbed():
                _put(work, target)
                tell_written(path)


@contextmanager
def scratch_folder(place: str | Path) -> Iterator[Path]:
    """An empty folder in `place`, removed when the block ends."""
    with _made(Path(os.path.realpath(place)), _make_folder) as work:
        yield work


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8), whole or not at all. OutputError where that is not possible."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def remove_folder(path: Path, kind: type[OutputError] = OutputError) -> None:
    """Remove a folder: gone under its name at once, whatever happens meanwhile. An error of `kind` where that is not possible."""
    with telling(path, kind):
        aside = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}")
        os.replace(path, aside)
        _remove(aside)


def drop_all() -> None:
    """Remove whatever this process has not completed, for an end that unwinds nothing."""
    for path in list(_making):
        _remove(path)
    for made in list(_folders.values()):
        _remove_empty(made)


def _put(work: Path, target: Path) -> None:
    """Move `work` to `target`. What stands there is moved aside first, and back if the move fails."""
    while True:
        try:
            os.replace(work, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        lock = _lock(target)
        aside = target.with_name(f"{_OLD}{secrets.token_hex(8)}-{target.name}")
        try:
            with contextlib.suppress(FileNotFoundError):  # another process is replacing it too
                os.replace(target, aside)
            os.replace(work, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            if aside.exists() and not target.exists():
                os.replace(aside, target)
            _remove(aside)
            if lock >= 0:
                os.close(lock)


@contextmanager
def folders_for(folder: Path) -> Iterator[None]:
    """`folder` and those above it exist within the block; what was made for it goes again if the block fails."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    made = _folders[id(missing)] = []
    try:
        for above in reversed(missing):
            above.mkdir(exist_ok=True)
            made.append(above)
        yield
    except BaseException:
        _remove_empty(made)
        raise
    finally:
        del _folders[id(missing)]


@contextmanager
def _made(place: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or folder in `place`, locked, and removed at the end if it still is there."""
    _sweep(place)
    path = _claim(place, make)
    try:
        yield path
    finally:
        _remove(path)
        _let_go(path)


def _claim(place: Path, make: Callable[[Path], None]) -> Path:
    """Make and lock; once more if somebody swept it in between."""
    while True:
        path = place / f"{_PREFIX}{secrets.token_hex(8)}"
        _making[path] = -1
        try:
            make(path)
            _making[path] = _lock(path)
            if path.exists():
                return path
        except BaseException:
            _remove(path)
            _let_go(path)
            raise
        _let_go(path)


def _let_go(path: Path) -> None:
    lock = _making.pop(path, -1)
    if lock >= 0:
        os.close(lock)


def _make_file(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _make_folder(path: Path) -> None:
    path.mkdir()


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Whatever else a process does with this around it waits until no other one does. `path` is made, and stays; where it cannot
    be, or where there are no locks, nobody waits. A process never waits for itself.
    """
    if path in _turns:
        yield
        return
    with contextlib.suppress(OSError):
        path.touch()
    lock = _lock(path)
    _turns.add(path)
    try:
        yield
    finally:
        _turns.discard(path)
        if lock >= 0:
            os.close(lock)


def _lock(path: Path, wait: bool = True) -> int:
    """A file descriptor that holds the lock on `path` until it is closed; -1 where there are no locks, or none is to be had.

    Nor is one to be had where somebody else has swept `path` meanwhile.
    """
    if fcntl is None:
        return -1
    try:
        lock = os.open(path, os.O_RDONLY)
    except OSError:
        return -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(lock)
        return -1
    return lock


def _sweep(place: Path) -> None:
    """Remove what processes that are gone have left in `place`; an older folder that one of them had moved aside comes back."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        left = [Path(entry.path) for entry in os.scandir(place) if entry.name.startswith(_PREFIX)]
        for path in sorted(left):
            with contextlib.suppress(OSError):
                _sweep_one(path)


def _sweep_one(path: Path) -> None:
    if path in _making:
        return
    lock = _lock(path, wait=False)
    if lock < 0:
        return
    try:
        old = path.name.startswith(_OLD)
        replaced = path.with_name(path.name.removeprefix(_OLD).partition("-")[2]) if old else None
        if replaced is not None and not replaced.exists():
            path.replace(replaced)
        else:
            _remove(path)
    finally:
        os.close(lock)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if not path.name:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders that were made one in another, unless somebody else has put something there."""
    with contextlib.suppress(OSError):
        for folder in reversed(folders):
            folder.rmdir()


def _to_disk(path: Path) -> None:
    """Wait until a file's bytes are on the disk, so that its name never comes to stand for less than all of them."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _forget_all() -> None:
    _making.clear()
    _folders.clear()


atexit.register(drop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)  # a child does not clean up for its parent
