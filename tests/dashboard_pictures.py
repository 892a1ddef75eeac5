"""Takes the pictures of the dashboard that README and docs show, in a real browser: `make pictures`.

What the pages show is computed on a store of its own, or in the folder that is named: minutes where nothing is kept there.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dashboard_server import ROOT, served
from playwright.sync_api import Page, sync_playwright

IMAGES = ROOT / "docs" / "images"
PATIENCE_MS = 900_000  # of an answer that is computed while others work
WIDTH = 1280


@dataclass(frozen=True)
class Picture:
    """What is taken of a page: from its top as far as `height`, once all of `shown` is there and nothing is computed any more."""

    address: str
    height: int
    shown: tuple[str, ...]
    dark: bool = False
    press: str = ""  # a button to begin with
    play: str = ""  # one to press in the end
    cards: tuple[str, ...] = field(default=())  # figures from the first of which to the last of which is taken instead


PICTURES = {
    "compare": Picture(
        "/", 1620, ("#compare-origin", "#compare-waterfall .main-svg", "#compare-cost .main-svg"), play="#compare-play"
    ),
    "schedule": Picture("/schedule", 1390, ("#schedule-sentence", ".js-plotly-plot .main-svg")),
    "topology": Picture("/topology?topology=8rack&network=ethernet-100g&colour=links", 900, ("#topology-hall .main-svg",)),
    "run": Picture("/run", 1330, ("#run-latency .main-svg", "#run-links .main-svg"), dark=True),
    "limits": Picture("/run", 1330, ("#run-shares .main-svg", "#run-links .main-svg"), cards=("#run-phases", "#run-links")),
    "plan": Picture(
        "/plan?systems=8rack,dgx-h100&rate=20%2Fs&tpot_p99=50%20ms", 1180, ("#plan-power-speed .main-svg",), press="#plan-start"
    ),
}


def take(page: Page, url: str, picture: Picture, path: Path) -> None:
    """One picture, as soon as the page shows what it is of."""
    page.goto(url + picture.address)
    if picture.press and not page.locator(picture.shown[0]).count():
        page.locator(picture.press).click()
    for shown in picture.shown:
        page.locator(shown).first.wait_for(state="attached", timeout=PATIENCE_MS)
    page.wait_for_function("!document.querySelector('[aria-label=progress]')", timeout=PATIENCE_MS)
    if picture.play:
        page.locator(picture.play).click()
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(1500)  # figures take their place
    page.screenshot(path=path, full_page=True, clip=_clip(page, picture))


def _clip(page: Page, picture: Picture) -> Any:
    """The part of the page that is taken."""
    if not picture.cards:
        return {"x": 0, "y": 0, "width": WIDTH, "height": picture.height}
    boxes = [page.locator(card).locator("xpath=ancestor::figure").bounding_box() for card in picture.cards]
    top, end = boxes[0]["y"] - 16, boxes[-1]["y"] + boxes[-1]["height"] + 16
    return {"x": 0, "y": top, "width": WIDTH, "height": end - top}


def in_a_browser(store: Path, names: list[str]) -> None:
    """Take the pictures called so."""
    with served(store) as url, sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for name in names:
            picture = PICTURES[name]
            scheme = "dark" if picture.dark else "light"
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
            path = IMAGES / f"dashboard-{name}.png"
            take(page, url, picture, path)
            page.close()
            print(path.relative_to(ROOT), flush=True)
        browser.close()


def main() -> None:
    """Take all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}; default: all")
    parser.add_argument("--store", type=Path, help="a folder of runs with what was computed before; default: an empty one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = asked.store or Path(scratch)
        if not any(store.glob("*/meta.json")):
            command = [sys.executable, "-m", "dcsim", "run", "topologies/8rack.yaml", "--rate-scale", "8"]
            subprocess.run([*command, "--out", str(store / "eightfold")], cwd=ROOT, check=True)
        in_a_browser(store, asked.names or list(PICTURES))


if __name__ == "__main__":
    main()
