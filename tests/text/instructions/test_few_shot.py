"""Prompts from seeds, and what is read of answers to them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.text.documents import conversation, to_batch
from bloomery.text.filters import AskBack, ReadDrafts
from bloomery.text.instructions import Example, FewShot, QuestionForm, examples_of

WORDS = st.text("abc é?.\n", min_size=1).map(str.strip).filter(bool)
FORM = QuestionForm()


@given(WORDS, WORDS)
def test_what_is_written_in_the_form_is_read_again(question, answer):
    read = FORM.read(FORM.write(Example("id", "", question, answer)))
    assert (read.question, read.answer, read.fault) == (question, answer, "")


@pytest.mark.parametrize(("text", "fault"), [
    ("", "nothing written"), ("Well, Question: a Answer: b", "no question at its beginning"), ("Question: a?", "no answer"),
    ("Question: Answer: b", "an empty question"), ("Question: a?\nAnswer:  ", "an empty answer"),
    ("Question: a?\nAnswer: b\nQuestion: c?\nAnswer: d", "more than one question or answer"),
])  # fmt: skip
def test_what_is_not_in_the_form_says_why(text, fault):
    assert FORM.read(text).fault == fault


@given(st.integers(0, 9), st.integers(1, 9), st.integers(0, 99))
def test_a_prompt_shows_so_many_different_seeds_the_same_ones_each_time(shots, there, number):
    seeds = [Example(f"s{i}", "", f"q{i}?", f"a{i}") for i in range(there)]
    prompt = FewShot(shots=shots)
    chosen = prompt.choose(seeds, 7, number)
    assert len(set(chosen)) == len(chosen) == min(shots, there)
    assert chosen == prompt.choose(seeds, 7, number)
    talk = prompt.prompt(chosen, "A text.")
    assert [m["role"] for m in talk] == ["user", "assistant"] * len(chosen) + ["user"]
    assert talk[-1]["content"].startswith("A text.\n\n")


SAID = ("user", "Once.\n\nTwice.\n\nWho?"), ("assistant", "I."), ("user", "Why?"), ("assistant", "So.")
TALK = [{"role": role, "content": content} for role, content in SAID]


def test_later_questions_are_about_the_same_passage():
    passage = "Once.\n\nTwice."
    assert examples_of("d", TALK, passages=True) == [Example("d#0", passage, "Who?", "I."), Example("d#1", passage, "Why?", "So.")]


def test_lessons_ask_for_what_drafts_are_read_as():
    lesson = AskBack()(to_batch([conversation("d", "s", TALK)])).batch.column("messages").to_pylist()[0]
    assert lesson[0]["content"] == FORM.asked("Once.\n\nTwice.")
    assert FORM.read(lesson[1]["content"]) == ("Who?", "I.", "")
    assert lesson[2]["content"] == FORM.request
    conversations = to_batch([conversation("d", "s", TALK)])
    assert ReadDrafts()(conversations).batch.equals(conversations)
