"""How soon the pages of a store are there, in Chromium without a window: python -m bench.pages --store STORE [--rounds 5] [--steps 100000]

Each page is opened anew in a context of its own, without a cache. `first paint` is what the browser says of the first content on the screen;
`whole` the moment at which all that the page has asked for is answered; both from the moment at which it was asked for. The worst of all rounds
is told beside the median. Then a training of so many steps, with nine figures each, is opened: once when nobody has
asked for it, and again; told is when all its charts are drawn.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import quote

from playwright.sync_api import Browser, sync_playwright
from tests.web.ui.places import line, made, served

from bloomery.store import Store
from bloomery.web.ui.strips import strips

BAR_MS = 1000.0
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
WHOLE = "() => Math.max(...performance.getEntriesByType('resource').map((one) => one.responseEnd))"
PAGES = {"Train": "run", "Prepare": "data", "Evaluate": "evaluate", "Assess": "evaluate", "Alignment": "evaluate"}


def pages_of(store: Store) -> dict[str, str]:
    """Every page by its name, of each kind of artifact one."""
    found = {name: f"#/{name}" for name in ("", "data", "tokens", "run", "compare", "evaluate", "chat", "label", "plan")}
    for recipe in strips(store):
        for stage in recipe["stages"]:
            page = PAGES.get(stage["stage"])
            if page and stage["status"] == "done":
                found[f"{page} of {stage['label']}"] = f"#/{page}/{quote(stage['reference'], safe='')}"
    return found


def timed(browser: Browser, address: str) -> tuple[float, float]:
    """Milliseconds to the first paint, and until all was there."""
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(address)
    tab.wait_for_selector("main h1")
    tab.wait_for_load_state("networkidle", timeout=120_000)
    told = tab.evaluate(PAINT), tab.evaluate(WHOLE)
    context.close()
    return told


def opened(browser: Browser, steps: int, again: int = 2) -> list[float]:
    """Seconds until the charts of a long training are drawn, the first time and after."""
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        figures = dict.fromkeys(("grad_norm", "update_norm", "learning_rate", "learning_rate/matrix", "learning_rate/vector", "nll"), 0.001)
        text = "".join(line(step, utilisation=0.4, **figures) for step in range(1, steps + 1))
        made(store, "Train/long-0", files=[("metrics.jsonl", text)])
        with served(store) as url:
            found = []
            for _ in range(1 + again):
                context = browser.new_context()
                tab = context.new_page()
                began = time.monotonic()
                tab.goto(f"{url}/#/run/Train%2Flong-0")
                tab.wait_for_selector("figure:nth-child(6) canvas")
                found.append(time.monotonic() - began)
                context.close()
    return found


def main() -> None:
    """Prints a line for each page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100_000)
    given = parser.parse_args()
    store, late = Store(given.store), 0
    with served(store) as url, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        print(f"{'page':<32}{'first paint, ms':>18}{'worst':>8}{'whole, ms':>12}")
        for name, place in pages_of(store).items():
            rounds = [timed(browser, f"{url}/{place}") for _ in range(given.rounds)]
            paints, wholes = zip(*rounds, strict=True)
            late += max(paints) > BAR_MS
            print(f"{name or 'home':<32}{median(paints):>18.0f}{max(paints):>8.0f}{median(wholes):>12.0f}")
        seconds = opened(browser, given.steps)
        browser.close()
    print(f"{late} pages were later than {BAR_MS:.0f} ms at their worst")
    print(f"{given.steps:,} steps: drawn after {', '.join(f'{one:.2f}' for one in seconds)} s")


if __name__ == "__main__":
    main()
