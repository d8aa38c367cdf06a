"""The pages in a real browser, without a window."""

from __future__ import annotations

import shutil
import time

import pytest

from bloomery.stages.labels import Judgements
from bloomery.store import Store
from tests.web.ui.places import line, made, served, small_store

playwright = pytest.importorskip("playwright.sync_api", reason="pages are tested with playwright")
BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")
PAGES = {
    "home": "#/", "runs": "#/run", "run": "#/run/Train%2Fbase-1", "compare": "#/compare/Train%2Fbase-1,Train%2Fchat-2", "tokens": "#/tokens",
    "labels": "#/label", "label": "#/label/first", "plan": "#/plan",
}  # fmt: skip
every_page = pytest.mark.parametrize("page", PAGES)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        made = p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield made
        made.close()


class Looked:
    """A page, what it asked for and what went wrong on it."""

    def __init__(self, browser, **options) -> None:
        self.tab = browser.new_page(**({"viewport": {"width": 1200, "height": 900}} | options))
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("console", lambda told: self.wrong.append(told.text) if told.type == "error" else None)

    def open(self, address: str, page: str):
        self.tab.goto(f"{address}/{PAGES.get(page, page)}")
        self.tab.wait_for_selector("main h1")
        return self.tab


@pytest.fixture
def looked(browser):
    made = Looked(browser)
    yield made
    made.tab.close()


@every_page
def test_a_page_is_drawn_without_a_fault_and_asks_nobody_else(looked, address, page, tmp_path):
    tab = looked.open(address, page)
    assert "did not work" not in tab.inner_text("main")
    assert looked.wrong == []
    assert {url.split("/")[2] for url in looked.asked if not url.startswith("data:")} == {address.removeprefix("http://")}
    assert len(tab.screenshot(path=tmp_path / f"{page}.png")) > 5000
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it is wider than its window"


@every_page
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_can_be_used_by_everyone(browser, address, page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="accessibility is checked with axe")
    looked = Looked(browser, color_scheme=scheme)
    found = axe.Axe().run(looked.open(address, page)).response["violations"]
    looked.tab.close()
    serious = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []


@every_page
def test_a_page_fits_a_telephone(browser, address, page):
    looked = Looked(browser, viewport={"width": 390, "height": 800})
    tab = looked.open(address, page)
    tab.wait_for_timeout(200)
    wide = tab.evaluate("document.documentElement.scrollWidth")
    looked.tab.close()
    assert wide <= 390


def test_hostile_texts_are_seen_and_do_nothing(looked, address):
    tab = looked.open(address, "run")
    tab.wait_for_selector("text=What it answers")
    assert "<script>window.hacked" in tab.inner_text("main")
    assert "\x1b" not in tab.inner_text("main")
    assert "\u202e" not in tab.inner_text("main")
    tab = looked.open(address, "home")
    tab.click("text=Train/base")
    tab.wait_for_selector("text=Its fields")
    assert tab.evaluate("window.hacked") is None
    assert looked.wrong == []


def test_a_stage_unfolds_to_its_lineage_by_keyboard_alone(looked, address):
    tab = looked.open(address, "home")
    tab.focus(".strip button >> nth=1")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("ul.tree")
    assert "TrainTokenizer/main-0" in tab.inner_text("ul.tree")
    assert tab.get_attribute(".strip button >> nth=1", "aria-expanded") == "true"
    tab.keyboard.press("Enter")
    assert tab.get_attribute(".strip button >> nth=1", "aria-expanded") == "false"


def test_a_loss_shows_soon_after_it_was_logged(browser, tmp_path):
    store = Store(tmp_path)
    small_store(store)
    with served(store) as there:
        looked = Looked(browser)
        tab = looked.open(there, "#/run/Train%2Fchat-2")
        tab.wait_for_selector("text=2 of 100")
        began = time.monotonic()
        with open(store.path("Train/chat-2.partial") / "metrics.jsonl", "a") as file:
            file.write(line(3, 0.125))
        tab.wait_for_selector("text=3 of 100", timeout=20_000)
        print(f"shown after {time.monotonic() - began:.2f} s")
        assert "0.125" in tab.inner_text(".cards")
        looked.tab.close()
        assert looked.wrong == []


def test_samples_are_looked_through_by_step(looked, address):
    tab = looked.open(address, "run")
    tab.wait_for_selector("#at")
    tab.focus("#at")
    tab.keyboard.press("Home")
    assert tab.inner_text("output[for=at]") == "step 0"
    assert "first" in tab.inner_text("main")


def test_colours_stay_as_they_were_chosen(looked, address):
    tab = looked.open(address, "home")
    tab.click("#theme")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    tab.click("#theme")
    tab.reload()
    tab.wait_for_selector("main h1")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"


def test_tokens_follow_what_is_typed(looked, address):
    tab = looked.open(address, "tokens")
    tab.fill("#text", "the fox")
    tab.wait_for_selector(".pieces:has-text('the fox')")
    assert tab.inner_text(".pieces") == "the fox"
    tab.check("#talk")
    tab.wait_for_selector(".pieces .control")
    assert tab.inner_text(".pieces .control >> nth=0") == "<|begin|>"
    assert tab.locator(".pieces .unlearnt").count() > 3


def begun(looked: Looked, address: str, labeler: str):
    """The Label page of somebody who has judged nothing yet."""
    tab = looked.open(address, "label")
    tab.fill("#who", labeler)
    tab.click("text=Go on")
    tab.wait_for_selector("text=0 of 2 judged")
    return tab


def test_answers_are_ranked_by_keys_kept_and_taken_back(browser, tmp_path):
    store = Store(tmp_path)
    small_store(store)
    judgements = Judgements(store.root / "labels" / "first.sqlite")
    with served(store) as there:
        looked = Looked(browser)
        tab = begun(looked, there, "ann")
        tab.keyboard.press("Tab")
        tab.keyboard.press("2")
        tab.wait_for_selector("text=1 of 2 judged")
        tab.reload()  # who judged goes on where they were
        tab.wait_for_selector("text=1 of 2 judged")
        for key in "31":
            tab.keyboard.press(key)
        tab.wait_for_selector("text=That was all")
        two, three = judgements.items()
        by_item = {one.item: one.ranks for one in judgements.standing()}
        assert [by_item[two.id][place] for place in two.order_for("ann")] == [2, 1]
        assert [by_item[three.id][place] for place in three.order_for("ann")] == [2, 3, 1]
        tab.keyboard.press("u")
        tab.wait_for_selector("text=1 of 2 judged")
        assert [one.item for one in judgements.standing()] == [two.id]
        assert looked.wrong == []
        assert tab.evaluate("window.hacked") is None
        looked.tab.close()


def test_what_the_server_had_no_time_to_answer_is_sent_again_once(browser, tmp_path):
    store = Store(tmp_path)
    small_store(store)
    judgements = Judgements(store.root / "labels" / "first.sqlite")
    with served(store) as there:
        looked = Looked(browser)
        tab = begun(looked, there, "ben")
        tab.route("**/api/judge", lambda route: (route.fetch(), route.abort())[1])  # it is taken, and the answer is lost
        tab.click("text=t · A tie")
        tab.wait_for_selector("text=Not kept yet")
        assert len(judgements.standing()) == 1
        tab.unroute("**/api/judge")
        tab.click("text=Go on")
        tab.wait_for_selector("text=1 of 2 judged")
        assert judgements.count() == 1
        looked.tab.close()


def test_runs_are_compared_by_what_differs(looked, address):
    tab = looked.open(address, "#/compare")
    for box in ("Train/base-1", "Train/chat-2"):
        tab.check(f"input[value='{box}']")
        tab.wait_for_selector(f"input[value='{box}']:checked")
    tab.wait_for_selector("text=What differs")
    told = tab.inner_text("main")
    assert "steps\t40\t100" in told
    assert "batch_tokens\t512" not in told  # both have it
    assert tab.locator("figure").count() >= 2
    assert looked.wrong == []


def test_a_page_that_a_stage_has_left_reaches_nothing(browser, tmp_path):
    store = Store(tmp_path)
    script = "<script>fetch('/api/home').then(() => { document.title = 'reached' }, () => { document.title = 'refused' })</script>"
    made(store, "Report/main-0", files=[("report.html", f"<!doctype html><title>waits</title><h1>Report</h1>{script}"), ("weights.bin", "x")])
    with served(store) as there:
        looked = Looked(browser)
        looked.tab.goto(f"{there}/file/Report/main-0/report.html")
        looked.tab.wait_for_selector("h1")
        looked.tab.wait_for_timeout(300)
        assert looked.tab.title() == "refused"
        for name in ("weights.bin", "manifest.json", "none.html", "..%2F..%2Fx.html"):
            assert looked.tab.goto(f"{there}/file/Report/main-0/{name}").status == 404
        looked.tab.close()


@pytest.mark.slow
def test_a_plan_follows_what_is_chosen(looked, address):
    tab = looked.open(address, "plan")
    tab.select_option("#model", "110m")
    tab.wait_for_selector("text=bloomery size 110m", timeout=60_000)
    tab.wait_for_selector("text=It fits")
    tab.select_option("#machine", "rtx4090")
    tab.select_option("#way", "replicate")
    tab.select_option("#model", "2.8b")
    tab.wait_for_selector("text=It does not fit", timeout=60_000)
    assert looked.wrong == []
