"""The page of bad steps: what documents say stays text."""

from bloomery.stages.healed import html, in_summary, markdown
from bloomery.train.healing import Event, Ledger

DOCUMENT = {"id": "a`b|<i>", "source": "web", "row": 7, "place": 0, "start": 0, "stop": 9, "loss": 9.0}
EVENT = Event(step=5, rung="roll back", cause="loss", loss=float("inf"), grad_norm=1.0, documents=(DOCUMENT,), back_to=2).plain()
KNOWN = Ledger(losses=(2.0, 2.1), grad_norms=(1.0, 1.1), updates=(0.1,), jumps=((2, 12),), events=(EVENT,))
TEXTS = [(EVENT, DOCUMENT, "<script>alert(1)</script>`\n# heading\x1b[31m")]


def test_what_documents_say_is_escaped_in_html():
    page = html("Train/x", KNOWN, TEXTS)
    assert "<script>" not in page
    assert "<i>" not in page
    assert "roll back to step 2" in page


def test_what_documents_say_stays_in_its_line_and_in_code_in_markdown():
    page = markdown("Train/x", KNOWN, TEXTS)
    (line,) = [line for line in page.splitlines() if "alert" in line]
    assert "\x1b" not in page
    assert line.count("`") == 6
    assert not any(line.startswith("# heading") for line in page.splitlines())


def test_a_run_without_bad_steps_says_nothing():
    assert in_summary(Ledger()) == {}
    assert in_summary(KNOWN) == {"healing": {"bad_steps": 1, "roll back": 1, "jumps": [(2, 12)]}}
