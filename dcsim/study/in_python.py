"""Errors in Python's words: the command line's options become the arguments that stand for them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from dcsim.errors import DcsimError, Problem, SpecError

P = ParamSpec("P")
R = TypeVar("R")

_SETTING = re.compile(r"--set '?([\w.-]+)='?((?:\"[^\"]*\"|\[[^\]]*\]|[^\s:;']|:(?!\s))*)'?")
_OPTION_VALUE = re.compile(r"--([a-z][a-z0-9]*(?:-[a-z0-9]+)*) ('[^']*'|[\w./-]+)(?=[,;]|$)")
_OPTION = re.compile(r"--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)")
_PLACE = re.compile(r"--set ([\w.-]+)=(.*)")
_CALLED = {"set": "set", "rounds": "rounds=True"}


def in_words(text: str) -> str:
    """The text with `--set fabric.racks=12` as `with_({'fabric.racks': 12})` and other options as `name=`."""
    text = _SETTING.sub(lambda match: f"with_({{{match[1]!r}: {_value(match[2])}}})", text)
    text = _OPTION_VALUE.sub(lambda match: f"{_name(match[1])}={_value(match[2].strip(chr(39)))}", text)
    return _OPTION.sub(lambda match: _called(match[1]), text)


def _place(where: str) -> str:
    """Where a problem is: a setting's value goes to the end of the place, spaces and all."""
    match = _PLACE.fullmatch(where)
    if match:
        return f"with_({{{match[1]!r}: {_value(match[2])}}})"
    return "load()" if where == "command line" else in_words(where)


def _name(option: str) -> str:
    return option.replace("-", "_")


def _called(option: str) -> str:
    name = _CALLED.get(option, _name(option))
    return name if "=" in name else f"{name}="


def _value(text: str) -> str:
    try:
        return repr(json.loads(text))
    except ValueError:
        return repr(text)


@contextmanager
def speaking_python() -> Iterator[None]:
    """Within the block an error that names options of the command line names arguments instead; its kind stays."""
    try:
        yield
    except SpecError as error:
        told = [Problem(_place(one.where), in_words(one.what), in_words(one.mend)) for one in error.problems]
        if told == error.problems:
            raise
        raise type(error)(told) from error
    except DcsimError as error:
        told_text = in_words(str(error))
        if told_text != str(error):
            error.args = (told_text,)
        raise


def speaks_python(function: Callable[P, R]) -> Callable[P, R]:
    """A public function whose errors are in Python's words."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with speaking_python():
            return function(*args, **kwargs)

    return called
