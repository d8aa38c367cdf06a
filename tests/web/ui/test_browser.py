"""The pages in a real browser, without a window."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from bloomery.stages.labels import Judgements
from bloomery.store import Store
from bloomery.web.ui import speaking
from tests.web.ui.filled import fill
from tests.web.ui.places import leased, line, made, served, small_store
from tests.web.ui.test_speaking import talkers
from tests.web.ui.views import BROWSER, PAGES

playwright = pytest.importorskip("playwright.sync_api", reason="pages are tested with playwright")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")
every_page = pytest.mark.parametrize("page", [pytest.param(name, marks=[pytest.mark.slow] * (name == "plan")) for name in PAGES])
LAYOUT = """() => {
  const seen = [...document.querySelectorAll("main *")].filter((one) => one.checkVisibility() && one.getClientRects().length);
  const wrong = [];
  if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is wider than its window");
  const clips = (one) => one && one !== document.body && (getComputedStyle(one).overflowX !== "visible" || clips(one.parentElement));
  for (const one of seen) {
    const box = one.getBoundingClientRect();
    if (box.right > innerWidth + 1 && !clips(one)) wrong.push(`beyond the edge: ${one.outerHTML.slice(0, 80)}`);
  }
  const controls = seen.filter((one) => one.matches("button, select, input, textarea, a"));
  controls.forEach((one, i) => controls.slice(i + 1).forEach((other) => {
    const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
    const over = Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
    const told = [one, other].map((it) => it.outerHTML.slice(0, 60));
    if (over && !one.contains(other) && !clips(one) && !clips(other)) wrong.push(`over each other: ${told}`);
  }));
  return wrong;
}"""


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
        self.tab.goto("about:blank")  # another page of ours would only be changed, and not at once
        self.tab.goto(f"{address}/{PAGES.get(page, page)}")
        self.tab.wait_for_selector("main h1")
        self.tab.wait_for_load_state("networkidle", timeout=120_000)
        return self.tab

    def check(self, address: str) -> None:
        """Nothing has gone wrong, and nothing was asked of anybody else."""
        assert self.wrong == []
        assert {url.split("/")[2] for url in self.asked if not url.startswith(("data:", "about:"))} <= {address.removeprefix("http://")}
        assert self.tab.evaluate("window.hacked") is None


@pytest.fixture
def looked(browser):
    made = Looked(browser)
    yield made
    made.tab.close()


@contextmanager
def visiting(browser, store: Store):
    """A page, and the address of a store that is served for it alone."""
    with served(store) as there:
        looked = Looked(browser)
        yield looked, there
        looked.tab.close()


def serious(tab) -> list[str]:
    """What keeps somebody from using a page, as axe sees it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="accessibility is checked with axe")
    found = axe.Axe().run(tab).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")]


@every_page
def test_a_page_is_whole_asks_nobody_else_fits_and_can_be_used_by_everyone(looked, address, page, corpora):
    tab = looked.open(address, PAGES[page].format(shelf=quote(corpora["shelf"], safe="")))
    assert "did not work" not in tab.inner_text("main")
    assert tab.evaluate(LAYOUT) == []
    assert serious(tab) == []
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.wait_for_timeout(100)  # charts are drawn anew
    assert tab.evaluate(LAYOUT) == []
    looked.check(address)


@pytest.mark.slow
@every_page
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_can_be_used_in_both_colours_and_widths(browser, address, page, scheme, width, corpora):
    looked = Looked(browser, color_scheme=scheme, viewport={"width": width, "height": 900})
    tab = looked.open(address, PAGES[page].format(shelf=quote(corpora["shelf"], safe="")))
    assert serious(tab) == []
    assert tab.evaluate(LAYOUT) == []
    looked.tab.close()
    assert looked.wrong == []


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
    with visiting(browser, store) as (looked, there):
        tab = looked.open(there, "#/run/Train%2Fchat-2")
        tab.wait_for_selector("text=2 of 100")
        began = time.monotonic()
        with open(store.path("Train/chat-2.partial") / "metrics.jsonl", "a") as file:
            file.write(line(3, 0.125))
        tab.wait_for_selector("text=3 of 100", timeout=20_000)
        print(f"shown after {time.monotonic() - began:.2f} s")
        assert "0.125" in tab.inner_text(".cards")
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
    assert tab.locator("#of option").all_inner_texts() == ["Train/base-1", "Train/talker-3"]
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
    with visiting(browser, store) as (looked, there):
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


def test_answers_are_rated_by_keys_one_after_another(browser, tmp_path):
    store = Store(tmp_path)
    small_store(store)
    judgements = Judgements(store.root / "labels" / "first.sqlite")
    with visiting(browser, store) as (looked, there):
        tab = begun(looked, there, "ann")
        tab.select_option("#way", "rate")
        tab.focus("[aria-label='Answer A: 1 of 5']")
        for key in "4u25":  # the first is taken back before anything was sent
            tab.keyboard.press(key)
        tab.wait_for_selector("text=1 of 2 judged")
        (one,) = judgements.standing()
        item = judgements.item(one.item)
        assert [one.rates[place] for place in item.order_for("ann")] == [2, 5]
        assert serious(tab) == []
        with tab.expect_download() as download:
            tab.click("text=What has been judged")
        assert json.loads(download.value.path().read_text())["rates"] == list(one.rates)
        looked.check(there)


def test_what_the_server_had_no_time_to_answer_is_sent_again_once(browser, tmp_path):
    store = Store(tmp_path)
    small_store(store)
    judgements = Judgements(store.root / "labels" / "first.sqlite")
    with visiting(browser, store) as (looked, there):
        tab = begun(looked, there, "ben")
        tab.route("**/api/judge", lambda route: (route.fetch(), route.abort())[1])  # it is taken, and the answer is lost
        tab.click("text=t · A tie")
        tab.wait_for_selector("text=Not kept yet")
        assert len(judgements.standing()) == 1
        tab.unroute("**/api/judge")
        tab.click("text=Go on")
        tab.wait_for_selector("text=1 of 2 judged")
        assert judgements.count() == 1


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
    with visiting(browser, store) as (looked, there):
        looked.tab.goto(f"{there}/file/Report/main-0/report.html")
        looked.tab.wait_for_selector("h1")
        looked.tab.wait_for_timeout(300)
        assert looked.tab.title() == "refused"
        for name in ("weights.bin", "manifest.json", "none.html", "..%2F..%2Fx.html"):
            assert looked.tab.goto(f"{there}/file/Report/main-0/{name}").status == 404


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


def corpus(looked, address, corpora):
    """The Data page of the shelf."""
    tab = looked.open(address, PAGES["corpus"].format(shelf=quote(corpora["shelf"], safe="")))
    tab.wait_for_selector("article")
    return tab


def test_dropped_documents_are_looked_through_by_filter_and_words(looked, address, corpora):
    tab = corpus(looked, address, corpora)
    tab.select_option("#filter", "DecontaminateSums")
    tab.wait_for_selector("text=1 of 1 that were dropped")
    assert tab.inner_text("article mark") == "2 + 3"
    assert "DecontaminateSums: holds test item '2 + 3'" in tab.inner_text("article")
    tab.select_option("#kind", "documents")
    tab.fill("#words", "Document 1")
    tab.wait_for_selector("text=and have “Document 1” in them")
    assert {text.lower() for text in tab.locator("article mark").all_inner_texts()} == {"document 1"}
    tab.click("text=Its story >> nth=0")
    tab.wait_for_selector(".steps")
    assert "ExactDuplicates kept" in tab.inner_text(".steps")
    looked.check(address)


def test_a_threshold_is_moved_and_says_what_would_stay(looked, address, corpora):
    tab = corpus(looked, address, corpora)
    figure = tab.locator("figure")
    assert "as now" in figure.inner_text()
    tab.focus("#low0")
    for _ in range(3):
        tab.keyboard.press("ArrowRight")
    assert "fewer than now" in figure.inner_text()
    low, high = (int(tab.input_value(f"#{name}0")) for name in ("low", "high"))
    bars = figure.locator(".bars i")
    gone = [place for place in range(bars.count()) if "goes" in (bars.nth(place).get_attribute("class") or "")]
    assert gone == [*range(low), *range(high + 1, bars.count())]
    tab.click("text=Documents at the margin")
    figure.locator("article").first.wait_for()
    tab.focus("#low0")
    tab.keyboard.press("Home")
    assert "no bound" in tab.inner_text("output[for=low0]")
    assert "1 more than now" in figure.inner_text()
    looked.check(address)


def test_hostile_documents_and_long_lines_do_nothing_on_the_new_pages(looked, address, corpora):
    tab = corpus(looked, address, corpora)
    tab.select_option("#kind", "documents")
    tab.fill("#words", "script")
    tab.wait_for_selector("text=and have “script” in them")
    for page in ("answers", "choices", "alignment"):
        assert "<script>" in tab.locator("main").inner_text()
        assert not set("\x1b\u202e") & set(tab.locator("main").inner_text())
        looked.check(address)
        tab = looked.open(address, page)
        if page == "answers":
            tab.select_option("#only", "")
        elif page == "alignment":
            tab.click("details summary >> nth=0")
        tab.wait_for_selector("text=window.hacked")


def test_answers_are_found_and_weighed(looked, address):
    tab = looked.open(address, "answers")
    tab.select_option("#group", "sums")
    tab.wait_for_selector("text=2 of 5 answers")
    tab.click("text=The whole prompt, with probabilities >> nth=0")
    tab.wait_for_selector("text=log p >> nth=1", timeout=60_000)
    tab.focus(".weighed >> nth=0")
    tab.keyboard.press("ArrowRight")
    assert "%" in tab.inner_text(".told >> nth=0")
    tab.click("text=Ask it in Chat >> nth=0")
    tab.wait_for_selector("#say")
    assert tab.input_value("#say") == "and one?"
    assert tab.locator("section.talking >> nth=0 >> .turn").count() == 2
    looked.check(address)


def test_two_models_are_talked_to_and_their_answers_go_to_people(browser, tmp_path):
    store = Store(tmp_path)
    fill(store)
    with visiting(browser, store) as (looked, there):
        tab = looked.open(there, "chat")
        tab.select_option("#right", "Train/talker-3")
        tab.fill("#max_tokens", "12")
        tab.focus("#temperature")
        tab.keyboard.press("End")
        tab.fill("#say", "one and one?")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("text=12 tokens >> nth=1", timeout=60_000)
        assert tab.locator("section.talking >> nth=0 >> .weighed span").count() == 12
        tab.hover("section.talking >> nth=0 >> .weighed span >> nth=2")
        assert "likeliest" in tab.inner_text(".told >> nth=0")
        tab.click("text=As curl >> nth=0")
        tab.wait_for_selector(".copied >> nth=1")
        curl, python = tab.locator("section.talking >> nth=0 >> pre").all_inner_texts()
        answer = json.loads(subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True).stdout)
        said = tab.locator("section.talking >> nth=0 >> .weighed").inner_text()
        assert answer["choices"][0]["message"]["content"].split() == said.split()
        compile(python, "copied", "exec")
        assert "extra_body" not in python
        tab.click("text=Send to Label")
        tab.wait_for_selector("text=Judge them")
        (item,) = Judgements(store.root / "labels" / "chat.sqlite").items()
        assert list(item.prompt) == [{"role": "user", "content": "one and one?"}]
        assert item.answers[0].split() == said.split()
        tab.click("text=Look inside >> nth=0")
        tab.wait_for_selector("canvas")
        assert tab.locator(".lens tbody tr").count() == 3
        tab.focus(".looks")
        tab.keyboard.press("ArrowLeft")
        assert "looks at" in tab.inner_text("main")
        assert serious(tab) == []
        assert tab.evaluate(LAYOUT) == []
        looked.check(there)


def slide(tab, name: str, value: float) -> None:
    """Moves a slider."""
    tab.eval_on_selector(f"#{name}", "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', { bubbles: true })); }", value)


WAYS = {
    "drawn": ({"temperature": 1.2, "typical_p": 0.9, "no_repeat_ngram_size": "3", "no_repeat_sentences": None, "dola_layers": "low"},
              {"temperature": 1.2, "typical_p": 0.9, "no_repeat_ngram_size": 3, "no_repeat_sentences": True, "dola_layers": "low", "seed": 0}),
    "likeliest": ({"repetition_penalty": 1.3, "dola_layers": "some", "layers_named": "0, 1", "dola_relative_top": 0.2},
                  {"temperature": 0, "repetition_penalty": 1.3, "dola_layers": [0, 1], "dola_relative_top": 0.2}),
    "beams": ({"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5, "length_penalty": 2, "early_stopping": "true"},
              {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5, "length_penalty": 2, "early_stopping": True}),
    "drawn beams": ({"do_sample": None, "num_beams": 2, "top_p": 0.8, "early_stopping": "never"},
                    {"do_sample": True, "num_beams": 2, "top_p": 0.8, "early_stopping": "never", "temperature": 0.7, "seed": 0}),
    "contrastive": ({"penalty_alpha": 0.4, "tried": 3, "stops": "zz | \\n\\n", "biases": '{"7": -100}'},
                    {"penalty_alpha": 0.4, "top_k": 3, "stop": ["zz", "\n\n"], "logit_bias": {"7": -100}}),
}  # fmt: skip


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.slow] * (way != "drawn beams")) for way in WAYS])
def test_what_is_set_is_what_is_asked_and_the_server_does_it(looked, address, way):
    chosen, body = WAYS[way]
    tab = looked.open(address, "chat")
    tab.select_option("#way", way.removeprefix("drawn ") if way != "drawn" else way)
    tab.click("text=All controls")
    for name, value in chosen.items():
        kind = tab.eval_on_selector(f"#{name}", "(one) => one.type")
        if kind == "checkbox":
            tab.check(f"#{name}")
        elif kind == "range":
            assert tab.is_enabled(f"#{name}")
            slide(tab, name, value)
        else:
            (tab.select_option if kind == "select-one" else tab.fill)(f"#{name}", value)
    tab.fill("#max_tokens", "6")
    tab.fill("#say", "one and one?")
    with tab.expect_request("**/chat/completions") as asked:
        tab.keyboard.press("Enter")
    tab.wait_for_selector("text=/[1-6] tokens/", timeout=60_000)
    sent = asked.value.post_data_json
    assert {name: sent[name] for name in sent if name not in (
        "model", "messages", "max_tokens", "stream", "stream_options", "logprobs", "top_logprobs",
    )} == body  # fmt: skip
    tab.click("text=As curl >> nth=0")
    tab.wait_for_selector(".copied >> nth=1")
    curl, python = tab.locator("section.talking >> nth=0 >> pre").all_inner_texts()
    assert all(f'"{name}"' in curl for name in body)
    assert compile(python, "copied", "exec")
    assert ("extra_body" in python) == bool(body.keys() - {"temperature", "seed", "stop", "logit_bias"})
    looked.check(address)


def test_a_control_that_does_not_apply_is_disabled_and_says_why(looked, address):
    tab = looked.open(address, "chat")
    tab.click("text=All controls")
    for way, on, off in (
        ("drawn", ("temperature", "seed", "top_k", "dola_layers", "draft"), ("num_beams", "diversity_penalty", "tried", "dola_relative_top")),
        ("likeliest", ("dola_layers", "draft", "repetition_penalty"), ("temperature", "seed", "top_k", "do_sample")),
        ("beams", ("num_beams", "do_sample", "num_beam_groups", "dola_layers"), ("temperature", "typical_p", "diversity_penalty", "draft")),
        ("contrastive", ("penalty_alpha", "tried", "held"), ("temperature", "top_k", "num_beams", "dola_layers", "draft")),
    ):  # fmt: skip
        tab.select_option("#way", way)
        assert [name for name in on if not tab.is_enabled(f"#{name}")] == []
        for name in off:
            assert tab.is_disabled(f"#{name}"), name
            why = tab.get_attribute(f"#{name}", "title")
            assert why in tab.inner_text(f"#{tab.get_attribute(f'#{name}', 'aria-describedby')}")
    assert tab.evaluate(LAYOUT) == []
    assert serious(tab) == []
    tab.select_option("#way", "beams")
    tab.check("#do_sample")
    assert tab.is_enabled("#temperature")
    assert tab.is_disabled("#num_beam_groups")
    tab.select_option("#mode", "text")
    assert tab.is_disabled("#system")
    assert "· 1 in use" in tab.inner_text("summary >> nth=0")
    looked.check(address)


@pytest.mark.slow
def test_guesses_that_stood_and_models_that_do_not_fit_are_told(browser, tmp_path, monkeypatch):
    store = Store(tmp_path)
    talkers(store)
    with visiting(browser, store) as (looked, there):
        tab = looked.open(there, "#/chat/Train%2Fone-1")
        tab.click("text=All controls")
        tab.select_option("#draft", "Train/small-3")
        tab.fill("#max_tokens", "12")
        tab.fill("#say", "one?")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("text=/% of \\d+ guesses stood/", timeout=60_000)
        tab.click("text=As curl >> nth=0")
        tab.wait_for_selector(".copied >> nth=1")
        curl, python = tab.locator("section.talking >> nth=0 >> pre").all_inner_texts()
        assert "?draft=Train%2Fsmall-3'" in curl
        assert 'default_query={"draft": "Train/small-3"}' in python
        looked.check(there)
        monkeypatch.setattr(speaking, "free_bytes", lambda device: 1000)
        tab.select_option("#right", "Train/two-2")
        tab.select_option("#draft", "")
        tab.fill("#say", "two?")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("text=there is no memory for that >> nth=1", timeout=60_000)
        assert "bloomery serve Train/two-2 --rows 1" in tab.inner_text("main")


def test_an_answer_that_is_stopped_ends_and_is_kept(looked, address):
    tab = looked.open(address, "chat")
    tab.route("**/chat/completions", lambda route: None)  # never answered
    tab.fill("#say", "one?")
    tab.keyboard.press("Enter")
    tab.click("text=Stop")
    tab.wait_for_selector("text=stopped")
    assert tab.is_enabled("text=Send >> nth=0")
    tab.unroute("**/chat/completions")
    tab.fill("#max_tokens", "3")
    tab.select_option("#mode", "text")
    tab.fill("#say", "two and")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("text=3 tokens", timeout=60_000)
    looked.check(address)


def test_a_run_is_asked_to_end_and_its_troubles_are_said(browser, tmp_path):
    store = Store(tmp_path)
    small_store(store)
    with visiting(browser, store) as (looked, there):
        tab = looked.open(there, "run")
        assert "Step 7: the loss is 9, above 2.5" in tab.inner_text(".alerts")
        tab = looked.open(there, "#/run/Train%2Fchat-2")
        assert "It ended at step 2 before it was done" in tab.inner_text(".alerts")
        with leased(store, "Train/chat-2"):
            tab = looked.open(there, "#/run/Train%2Fchat-2")
            tab.reload()
            tab.click("text=Stop and save")
            tab.wait_for_selector("text=Asked to end")
            assert store.path("Train/chat-2.stop").exists()
        looked.check(there)


TRAINING = """
import sys
from tests.stages.test_train import *
torch.set_num_threads(1)
training(name="asked", steps=4000).run(RunContext(store=Store(sys.argv[1]), quiet=True, checkpoint_every_s=1000.0))
"""


@pytest.mark.slow
def test_a_run_is_stopped_from_its_page_saves_and_can_be_gone_on_with(browser, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", TRAINING, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    store, until = Store(tmp_path), time.monotonic() + 120
    while not (found := list(tmp_path.glob("Train/asked-*.partial/metrics.jsonl"))) or found[0].stat().st_size < 2000:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    reference = f"Train/{found[0].parent.stem}"
    with visiting(browser, store) as (looked, there):
        looked.tab.goto(f"{there}/#/run/{quote(reference, safe='')}")
        looked.tab.click("text=Stop and save")
        looked.tab.wait_for_selector("text=before it was done; the same command goes on", timeout=60_000)
        looked.check(there)
    assert process.wait(60) != 0
    assert "asked to end, saved at step" in process.stderr.read()
    last = json.loads(found[0].read_text().splitlines()[-1])["step"]
    assert [path.name for path in (found[0].parent / "checkpoints").iterdir()] == [f"step-{last:08}"]
    assert not store.path(f"{reference}.stop").exists()
