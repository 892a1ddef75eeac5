"""ruamel's YAML reader with limits: what is nested without end, or cannot be made, is told with its place."""

from __future__ import annotations

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import StringMark, YAMLError

from dcsim.errors import shown
from dcsim.reading import reason_of

OPEN_MAX = 250  # brackets not closed yet, those in texts included
_BRACKETS = re.compile(r"[\[\]{}]")
DEPTH_MAX = 60  # one in another; the reader's own functions call each other several times as deep


class _Composer(Composer):
    """Stops where nodes are nested too deeply, before reading on."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self._depth > DEPTH_MAX:
            event = self.parser.peek_event()
            raise ComposerError(None, None, "it is nested too deeply", event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Constructor(RoundTripConstructor):
    """Says where a value stands that cannot be made of its text, such as `!!int many`, and a key that cannot be one."""

    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        try:
            return bool(super().check_mapping_key(node, key_node, mapping, key, value))
        except TypeError as error:
            raise ConstructorError(None, None, "a key is a text", key_node.start_mark) from error

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (YAMLError, RecursionError):
            raise
        except Exception as error:
            digits = "integer string conversion" in str(error)
            what = reason_of(error) if digits else f"{shown(node.value)} is no {str(node.tag).rpartition(':')[2]}"
            raise ConstructorError(None, None, what, node.start_mark) from error


def read(text: str) -> Any:
    """ruamel's tree of a text, with the place of every key; keys given twice are refused. Raises YAMLError."""
    _refuse_open_brackets(text)
    yaml = YAML(typ="rt")
    yaml.Composer = _Composer
    yaml.Constructor = _Constructor
    yaml.allow_duplicate_keys = False
    return yaml.load(text)


def _refuse_open_brackets(text: str) -> None:
    """ruamel takes seconds for some hundred brackets in a row, before it can be stopped."""
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > OPEN_MAX:
            line = text.count("\n", 0, bracket.start())
            mark = StringMark("", 0, line, bracket.start() - text.rfind("\n", 0, bracket.start()) - 1, None, None)
            raise ComposerError(None, None, "it is nested too deeply", mark)
