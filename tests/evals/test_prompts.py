"""A wording: what is asked, with examples before it, as text and as the model reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.evals.prompts import Prompt, Shown
from bloomery.text.chat import ChatTemplate
from tests.evals.small import TOKENIZER

PLAIN = Prompt(ask="Q: {q}\nA:", before="Say it.\n", alone="A:")
SHOWN = [Shown("Q: one\nA:", "1"), Shown("Q: two\nA:", "2")]


def test_examples_stand_before_what_is_asked_each_with_its_answer():
    asked = PLAIN.asked({"q": "three", "n": 3})
    assert PLAIN.context(SHOWN, asked) == "Say it.\nQ: one\nA: 1\n\nQ: two\nA: 2\n\nQ: three\nA:"
    assert PLAIN.context([], asked) == "Say it.\nQ: three\nA:"
    assert PLAIN.ids(TOKENIZER, [], asked) == [TOKENIZER.begin, *TOKENIZER.encode("Say it.\nQ: three\nA:")]


def test_choices_that_have_labels_are_listed_and_answered_by_label():
    letters = Prompt(ask="{q}\n{choices}\n", labels=("A", "B", "C"))
    assert letters.asked({"q": "?"}, ["red", "blue"]) == "?\nA. red\nB. blue\n"
    with pytest.raises(DataError, match="4 choices, and prompt 'plain' has 3 labels"):
        letters.asked({"q": "?"}, ["a", "b", "c", "d"])


@given(st.text(alphabet="ab{}q \n", max_size=12), st.text(alphabet="ab{}q \n", max_size=12))
def test_what_rows_hold_is_never_read_as_a_slot(q, answer):
    assert PLAIN.asked({"q": q}) == f"Q: {q}\nA:"
    assert PLAIN.answered(answer) == f" {answer}"


def test_a_chat_is_that_of_the_template_with_examples_as_turns():
    chat = Prompt(ask="{q}", before="Be brief.", form="chat")
    messages = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"}, {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
    ]  # fmt: skip
    ids = ChatTemplate().render(messages, TOKENIZER, add_generation_prompt=True).ids
    assert chat.ids(TOKENIZER, [Shown("one", "1")], "two") == ids
    (pair,) = chat.pairs(TOKENIZER, [Shown("one", "1")], "two", ["2"])
    assert (list(pair.before), list(pair.after)) == (ids, TOKENIZER.encode("2"))


def test_a_continuation_begins_where_the_context_ends_and_takes_its_last_blanks():
    (pair,) = PLAIN.pairs(TOKENIZER, [], "Q: x  ", ["2"])
    assert TOKENIZER.decode(pair.before[1:]) == "Say it.\nQ: x"
    assert TOKENIZER.decode(pair.after) == "   2"
    (alone,) = PLAIN.unasked(TOKENIZER, ["2"])
    assert TOKENIZER.decode(alone.before[1:]) + "|" + TOKENIZER.decode(alone.after) == "A:| 2"
    (nothing,) = Prompt(ask="{q}").unasked(TOKENIZER, ["2"])
    assert nothing.before == (TOKENIZER.begin,)
    assert TOKENIZER.decode(nothing.after) == " 2"


@pytest.mark.parametrize(("fields", "said"), [
    ({"answer": " {answer} or {more}"}, "the one slot"), ({"answer": " "}, "the one slot"), ({"ask": "{choices}"}, "give both"),
    ({"labels": ("A", "B")}, "give both"), ({"ask": "{choices}", "labels": ("A", "A")}, "label twice"),
])  # fmt: skip
def test_wordings_that_cannot_be_are_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        Prompt(**{"ask": "{q}"} | fields)


def test_a_column_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(DataError, match=r"no column 'question'.*questions"):
        Prompt(ask="{question}").asked({"questions": "?"})
