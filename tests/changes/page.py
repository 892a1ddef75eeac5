"""A page of all runs: reached from the bar, one line for each run."""

import json

import pytest

pytest.importorskip("dash", reason="the dashboard extra is not installed")

import dcsim as face
from dashboard.app import PAGES, make_app


def test_every_run_has_its_line(tmp_path):
    for name in ("one", "two"):
        face.load("node", duration="2 s").run(seed=1, out=tmp_path / name)
    body = {
        "output": "page.children",
        "outputs": {"id": "page", "property": "children"},
        "inputs": [{"id": "address", "property": "pathname", "value": "/runs"}],
        "changedPropIds": ["address.pathname"],
    }
    client = make_app(tmp_path / "one").server.test_client()
    page = client.post("/_dash-update-component", json=body).text
    assert page.count('"type":"Tr"') == 3
    assert all(json.dumps(name) in page for name in ("one", "two"))
    assert [page.TITLE for page in PAGES.values()] == ["Run", "Runs"]
