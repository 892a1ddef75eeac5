"""Files that pages offer to save: the report of a run, plan or sweep, as `dcsim report` writes it, and an answer as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from flask import Flask, Response, abort

from dashboard.runs import RunFolder
from dcsim.errors import DcsimError

ANSWER = re.compile(r"[0-9a-f]{16}")


def offer(server: Flask, own: RunFolder) -> None:
    """Answer to `/report/KIND/NAME.html` and `/answer/KIND/NAME.json`; anything that is not in the store is not found."""

    @server.get("/report/<kind>/<name>.html")
    def report(kind: str, name: str) -> Response:
        from dcsim.study.report import page_of

        try:
            one: Any = own.open(name) if kind == "run" else _answer(own, name)
            text = page_of([(f"{kind} {name}", one)])
        except DcsimError:
            abort(404)
        return _file(text, "text/html", f"{kind}-{name}.html")

    @server.get("/answer/<kind>/<name>.json")
    def answer(kind: str, name: str) -> Response:
        return _file(json.dumps(_answer(own, name), indent=1), "application/json", f"{kind}-{name}.json")


def _answer(own: RunFolder, name: str) -> dict[str, Any]:
    found = own.points.find_picture(name) if ANSWER.fullmatch(name) else None
    if found is None:
        abort(404)
    return found


def _file(text: str, kind: str, name: str) -> Response:
    return Response(text, mimetype=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
