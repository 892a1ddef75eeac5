"""The page in a real browser shows the numbers of the summary."""

import html
import re
import shutil
import subprocess
import threading

import pytest

from dcsim.results.records import read_json

pytest.importorskip("dash", reason="the dashboard extra is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=8000",
)
SCALE = {"ms": 1e-3, "us": 1e-6, "kW": 1e3, "MW": 1e6, "%": 1e-2}


@pytest.fixture
def page_at(make_run, tmp_path):
    """Serve a run folder on a free loopback port until the test is over."""
    from werkzeug.serving import make_server

    from dashboard.app import make_app

    folder = make_run(tmp_path / "one")
    server = make_server("127.0.0.1", 0, make_app(folder).server, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_the_browser_shows_the_summary(page_at, tmp_path):
    folder, address = page_at
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", address]
    page = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    summary = read_json(folder, "summary")
    shown = dict(re.findall(r'data-metric="(\w+)">(.*?)</span>(?=<|$)', page))
    assert len(shown) >= 20
    for name, inner in shown.items():
        text = html.unescape(re.sub(r"<[^>]+>", "", inner))
        if isinstance(summary[name], str):
            assert text == summary[name].replace("_", " ")
            continue
        amount, _, unit = text.partition(" ")
        value = float(amount.replace(",", "")) * SCALE.get(unit, 1.0)
        assert value == pytest.approx(summary[name], rel=6e-3), name
    assert page.count("main-svg") >= 4, "the figures were not drawn"
