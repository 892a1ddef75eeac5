"""A page of all runs: reached from the bar, one line for each run."""

import json

import pytest

pytest.importorskip("dash", reason="the dashboard extra is not installed")

import dcsim as face
from dashboard.app import PAGES, make_app


def test_every_run_has_its_line(tmp_path):
    for name in ("one", "two"):
        face.load("node", duration="2 s").run(seed=1, out=tmp_path / name)
    app = make_app(tmp_path)
    with app.server.app_context():
        page = json.dumps(PAGES["/runs"].layout().to_plotly_json(), default=lambda part: part.to_plotly_json())
    assert page.count('"type": "Tr"') == 3
    assert all(json.dumps(name) in page for name in ("one", "two"))
    assert "/runs" in json.dumps(app.server.test_client().get("/_dash-layout").json)
