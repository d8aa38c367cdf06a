"""What each page looks like, beside what it looked like: python -m tests.web.ui.test_pictures draws all references anew.

So that it looks the same on every machine: the letters are DejaVu's, as matplotlib brings them, unhinted and grey at their edges; store,
keys, times and sizes are those of nobody; the clock stands still and nothing moves. What is compared is small: a picture whose every point is
the mean of 8 × 8, so that an edge that is drawn a little otherwise is nothing, and a block that has moved, is missing or has another colour is
much.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from bloomery.store import Store
from tests.web.ui.filled import fill
from tests.web.ui.places import served, small_store
from tests.web.ui.views import BROWSER, PAGES

playwright = pytest.importorskip("playwright.sync_api", reason="pages are tested with playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")]
REFERENCES = Path(__file__).parent / "pictures"
LOOKS = {"light": 1200, "dark": 390}  # colours -> width of the window
LONGEST = 1600  # of a page, from its top
COARSE = 8  # points that become one
FAR = 14  # of 255: a point is another one
FEW = 6  # points that may be others
FACES = {"DejaVuSans": ("Drawn", 400), "DejaVuSans-Bold": ("Drawn", 700), "DejaVuSansMono": ("Drawn Mono", 400)}
STYLE = "".join(
    f"@font-face {{ font-family: '{name}'; font-weight: {weight}; src: url(/drawn/{file}.ttf) }}" for file, (name, weight) in FACES.items()
) + """
* { font-family: Drawn !important; animation: none !important; transition: none !important; caret-color: transparent !important }
code, pre, .mono, .pieces, .pieces *, .lens table, .lens table * { font-family: 'Drawn Mono' !important }
"""  # fmt: skip
CANVAS = """
const { set, get } = Object.getOwnPropertyDescriptor(CanvasRenderingContext2D.prototype, "font");
Object.defineProperty(CanvasRenderingContext2D.prototype, "font", { get, set(font) { set.call(this, font.replace(/px .*/, "px Drawn")); } });
"""
KEY, NOBODYS = re.compile(r"-([0-9a-f]{12})\b"), "0123456789ab"
TOLD = {"seconds": 1.5, "started": 1.7e9, "changed": 1.7e9, "now": 1.7e9, "bytes": 4096}  # figures that are never twice the same


def launched(p, *more: str):
    """A browser that draws letters alike everywhere."""
    flags = ["--no-sandbox", "--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb", "--hide-scrollbars"]
    return p.chromium.launch(executable_path=BROWSER, args=[*flags, *more])


def drawn(browser, address: str, store: Store, page: str, scheme: str, style: str = "") -> Image.Image:
    """What a page looks like, coarsely.

    Args:
        browser: that draws it.
        address: of the pages.
        store: whose path is not to be seen.
        page: its name in `PAGES`.
        scheme: "light" or "dark".
        style: more of it, by which a page can be spoilt.
    """
    keys: dict[str, str] = {}

    def shown(value):
        if isinstance(value, dict):
            return {name: TOLD[name] if name in TOLD and isinstance(one, int | float) else shown(one) for name, one in value.items()}
        return [shown(one) for one in value] if isinstance(value, list) else value

    def answered(route) -> None:
        url = route.request.url
        if "/drawn/" in url:
            return route.fulfill(path=Path(mpl.get_data_path()) / "fonts" / "ttf" / url.rpartition("/")[2], content_type="font/ttf")
        for name, key in keys.items():
            url = url.replace(f"{name}-{NOBODYS}", f"{name}-{key}")
        response = route.fetch(url=url)
        kind = response.headers.get("content-type", "")
        if not kind.startswith(("text/html", "application/json")):
            return route.fulfill(response=response)
        text = response.text().replace(str(store.root), "store")
        text = json.dumps(shown(json.loads(text))) if "json" in kind else text
        return route.fulfill(response=response, body=KEY.sub(f"-{NOBODYS}", text))

    for artifact in store.artifacts():
        if KEY.search(artifact.reference):
            name, _, key = artifact.reference.partition("/")[2].rpartition("-")
            keys[name] = key
    context = browser.new_context(
        viewport={"width": LOOKS[scheme], "height": 900}, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True, locale="en-GB",
        timezone_id="UTC", device_scale_factor=1,
    )  # fmt: skip
    tab = context.new_page()
    tab.clock.set_fixed_time(1.7e12)
    tab.add_init_script(CANVAS)
    context.route("**/*", answered)
    place = next((one.reference for one in store.artifacts() if one.reference.startswith("Prepare/shelf")), "")
    tab.goto(f"{address}/{PAGES[page].format(shelf=quote(KEY.sub(f'-{NOBODYS}', place), safe=''))}")
    tab.add_style_tag(content=STYLE + style)
    tab.wait_for_selector("main h1")
    tab.wait_for_load_state("networkidle", timeout=120_000)
    tab.evaluate("document.fonts.ready.then(() => dispatchEvent(new Event('resize')))")  # charts are drawn anew, with these letters
    data, before = b"", None
    while data != before:  # until it stands still
        before = data
        tab.wait_for_timeout(150)
        data = tab.screenshot(full_page=True)
    context.close()
    picture = Image.open(BytesIO(data)).convert("RGB")
    picture = picture.crop((0, 0, picture.width, min(LONGEST, picture.height)))
    return picture.reduce(COARSE)


def others(picture: Image.Image, reference: Image.Image) -> np.ndarray:
    """Which points are other ones; what one of the two lacks at its bottom is."""
    high = max(picture.height, reference.height)
    sides = []
    for one in (picture, reference):
        side = np.full((high, max(picture.width, reference.width), 3), -255, dtype=int)
        side[: one.height, : one.width] = np.asarray(one)
        sides.append(side)
    return np.abs(sides[0] - sides[1]).max(axis=2) > FAR


def held_to(picture: Image.Image, name: str, folder: Path) -> None:
    """Fails where a picture is another than its reference, and leaves it, and where it is, in a folder."""
    there = REFERENCES / f"{name}.png"
    where = others(picture, Image.open(there).convert("RGB"))
    if where.sum() > FEW:
        picture.save(folder / f"{name}.png")
        Image.fromarray(np.uint8(255 * where)).save(folder / f"{name}-where.png")
        rows = np.flatnonzero(where.any(axis=1)) * COARSE
        raise AssertionError(
            f"{name}: {where.sum()} points of {where.size} are other ones, {rows.min()} to {rows.max() + COARSE} from the top; look at "
            f"{folder}, and where it is meant: python -m tests.web.ui.test_pictures {name.partition('-')[0]}"
        )


@pytest.fixture(scope="module")
def still():
    with playwright.sync_playwright() as p:
        browser = launched(p)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", LOOKS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_looks_as_it_did(still, address, looked_at, corpora, page, scheme, tmp_path):
    held_to(drawn(still, address, looked_at, page, scheme), f"{page}-{scheme}", tmp_path)


@pytest.mark.parametrize(("page", "spoilt"), [
    ("run", "main h2 { margin-top: 3rem !important }"), ("run", "figure:nth-child(2) canvas { visibility: hidden }"),
    ("run", ".u-over, .u-wrap { display: none }"), ("home", ".strip li:nth-child(2) { display: none }"),
    ("home", ":root { --good: #a33 !important }"), ("answers", ".cards, .share i { background: #1f7a44 !important }"),
    ("label", "main { padding-left: 2rem !important }"), ("measured", "table { font-size: 18px }"), ("corpus", ".bars { opacity: 0 }"),
])  # fmt: skip
def test_what_is_moved_missing_or_of_another_colour_is_seen(still, address, looked_at, corpora, page, spoilt, tmp_path):
    with pytest.raises(AssertionError, match="points of"):
        held_to(drawn(still, address, looked_at, page, "light", spoilt), f"{page}-light", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{page}-light.png", f"{page}-light-where.png"}


def renew(names: list[str]) -> None:
    """Draws the references of some pages, or of all."""
    with tempfile.TemporaryDirectory() as folder, playwright.sync_playwright() as p:
        store, browser = Store(Path(folder) / "store"), launched(p)
        small_store(store)
        fill(store)
        with served(store) as address:
            for page in names or PAGES:
                for scheme in LOOKS:
                    drawn(browser, address, store, page, scheme).save(REFERENCES / f"{page}-{scheme}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    renew(sys.argv[1:])
