"""The state of a page as its address has it: `/?chips=512&llm=llama-2-70b`. What cannot be is replaced, with a notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html

READ_MAX = 200  # characters of a value that a notice repeats


@dataclass(frozen=True, slots=True)
class Control:
    """One control of a page: its name in the address, what it is at first, and how its text is read.

    `read` raises ValueError, with what would do, for a text that is none of its values. `prop` is the property of the component
    that holds the value.
    """

    name: str
    default: Any
    read: Callable[[str], Any]
    prop: str = "value"


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def read(text: str) -> int:
        if not text.strip().isdigit() or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low:,} to {high:,}")
        return int(text)

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """Reads a number within bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return read


def one_of(known: Sequence[str]) -> Callable[[str], str]:
    """Reads a name among those known."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"one of {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}")
        return text

    return read


def some_of(known: Sequence[str], least: int = 1) -> Callable[[str], list[str]]:
    """Reads names with commas between, each among those known."""

    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if len(names) < least or len(set(names)) < len(names) or not set(names) <= set(known):
            raise ValueError(f"some of {', '.join(known[:8])}")
        return names

    return read


def any_text(text: str) -> str:
    """Reads any text of a decent length."""
    if len(text) > READ_MAX:
        raise ValueError(f"at most {READ_MAX} characters")
    return text


def read_state(controls: Sequence[Control], query: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The value of every control, and a notice for each value of the address that cannot be."""
    values, notices = {control.name: control.default for control in controls}, []
    for control in controls:
        if control.name not in query:
            continue
        text = str(query[control.name])
        try:
            values[control.name] = control.read(text)
        except ValueError as error:
            shown = text if len(text) <= READ_MAX else text[:READ_MAX] + "..."
            notices.append(f"{control.name}: '{shown}' is not {error}; {_text(control.default)} is shown instead.")
    known = {control.name for control in controls}
    notices += [f"{name[:READ_MAX]}: this page has no such setting." for name in query if name not in known]
    return values, notices


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def address_of(path: str, controls: Sequence[Control], values: Mapping[str, Any]) -> str:
    """The link to a view, as the browser writes it: what differs from the defaults."""
    told = {c.name: _text(values[c.name]) for c in controls if values[c.name] != c.default}
    return f"{path}?{urlencode(told, safe=',')}" if told else path


def notices_view(notices: Sequence[str]) -> html.Div:
    """Notices as a page shows them; nothing without any."""
    return html.Div([html.P(text) for text in notices], className="notices", role="status", hidden=not notices)


def remember(page: str, controls: Sequence[Control]) -> dcc.Store:
    """What the address is made of; a page has it in its layout."""
    return dcc.Store(id=f"{page}-address", data={c.name: _text(c.default) for c in controls})


def connect_state(app: Dash, page: str, controls: Sequence[Control]) -> None:
    """Have the address follow the controls, whose ids are `page-name`, so that any view is a link."""
    app.clientside_callback(
        ClientsideFunction("dcsim", "remember"),
        Output(f"{page}-address", "modified_timestamp"),
        [Input(f"{page}-{control.name}", control.prop) for control in controls],
        State(f"{page}-address", "data"),
        prevent_initial_call=True,
    )
