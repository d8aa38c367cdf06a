"""Rows of the usual data sets: recognised by their columns, made one form, and bad ones named or counted."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import DataError
from bloomery.text.chat import check_messages
from bloomery.text.documents import Document, to_batch
from bloomery.text.instructions import preference_of
from bloomery.text.readers import Files
from bloomery.text.readers.rows import Rows, rows_of, to_document

U, A, S = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "R"}, {"role": "system", "content": "S"}


def read(row, **rows):
    """Messages and meta of one row."""
    document = to_document(row, "f#L1", "f", "text", (), Rows(**rows))
    return document.messages, json.loads(document.meta or "null")


def said(*contents):
    """User and assistant in turn."""
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


@pytest.mark.parametrize(("row", "form"), [
    ({"messages": [U, A]}, "messages"),
    ({"messages": json.dumps([U, A])}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, A]}, "messages"),
    ({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "R"}]}, "sharegpt"),
    ({"conversation": [{"speaker": "human", "text": "Q"}, {"speaker": "bot", "text": "R"}]}, "messages"),
    ({"prompt": "Q", "completion": "R"}, "prompt_completion"),
    ({"prompt": "Q", "completion": "R<|endoftext|>"}, "prompt_completion"),
    ({"prompt": [U], "completion": [A]}, "prompt_completion"),
    ({"prompt": "Q", "response": "R"}, "prompt_answer"),
    ({"instruction": "Q", "input": "", "output": "R"}, "alpaca"),
    ({"instruction": "Q", "context": "", "response": "R", "category": "closed_qa"}, "dolly"),
    ({"inputs": "Q", "inputs_pretokenized": "Q", "targets": "R", "targets_pretokenized": "R"}, "p3"),
    ({"question": "Q", "answer": "R"}, "question_answer"),
    ({"Question": "Q", "Answer": "R"}, "question_answer"),
    ({"problem": "Q", "solution": "R", "level": "Level 1"}, "prompt_answer"),
    ({"input": "Q", "target": "R"}, "prompt_answer"),
    ({"turns": ["Q"], "reference": ["R"]}, "turns"),
    ({"instruction": "Q", "instances": [{"input": "", "output": "R"}], "name": "x"}, "seed_task"),
])  # fmt: skip
def test_every_form_gives_the_same_conversation(row, form):
    messages, meta = read(row)
    assert (messages, meta["form"]) == ([U, A], form)


def test_type_instruction_input_and_output_are_kept():
    row = {"instruction": "Add", "context": "1 2", "response": "3", "category": "sums"}
    messages, meta = read(row)
    assert messages == said("Add\n\n1 2", "3")
    assert meta == {"form": "dolly", "type": "sums", "instruction": "Add", "input": "1 2", "output": "3"}


@pytest.mark.parametrize(("row", "asked", "output"), [
    ({"body": "Two cats came.", "question": "How many?", "answer": 2.0}, "Two cats came. How many?", "2"),
    ({"question": "Pick", "options": ["A) x", "B) y"], "rationale": "It is x."}, "Pick\n\nA) x\nB) y", "It is x."),
    ({"question": "Who?", "passage": "Ann came.", "answer": "Ann"}, "Who?\n\nAnn came.", "Ann"),
    ({"instruction": "Q", "output": 0.5}, "Q", "0.5"),
])  # fmt: skip
def test_stories_options_and_numbers_find_their_place(row, asked, output):
    assert read(row)[0] == said(asked, output)


def test_system_and_history_come_first():
    messages, meta = read({"system": "S", "history": [["a", "b"]], "instruction": "c", "output": "d"})
    assert messages == [S, *said("a", "b", "c", "d")]
    assert meta["system"] == "S"
    assert read({"system": "S", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "R"}]})[0] == [S, U, A]


def test_tools_and_images_are_left_out_by_name():
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    messages, meta = read({"messages": [U, call, {"role": "tool", "content": "3"}, A], "tools": "[{}]"})
    assert messages == [U, A]
    assert meta["ignored"] == {"tool_calls": 1, "tool messages": 1, "tools": 1}
    shown = {"role": "user", "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "Q"}]}
    assert read({"messages": [shown, A]}) == ([U, A], {"form": "messages", "ignored": {"image_url parts": 1}})
    spoken = [U, {"role": "assistant", "content": "let me see", "tool_calls": [{}]}, {"role": "tool", "content": "3"}, A]
    assert read({"messages": spoken})[0] == said("Q", "let me see\n\nR")


@pytest.mark.parametrize("mark", ["learn", "weight", "loss_weight", "train"])
def test_marks_of_what_is_to_be_learnt_are_kept(mark):
    _, meta = read({"messages": [U, A | {mark: 0}, U, A | {mark: 1}]})
    assert meta["learn"] == [None, False, None, True]


DIALOGUE = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: bye\n\nAssistant: "


@pytest.mark.parametrize("row", [
    {"prompt": "hi", "chosen": "good", "rejected": "bad"},
    {"prompt": said("hi"), "chosen": [{"role": "assistant", "content": "good"}], "rejected": [{"role": "assistant", "content": "bad"}]},
    {"prompt": "hi", "chosen": said("hi", "good"), "rejected": said("hi", "bad"), "messages": said("hi", "good")},
    {"chosen": "\n\nHuman: hi\n\nAssistant: good", "rejected": "\n\nHuman: hi\n\nAssistant: bad"},
    {"conversations": [{"from": "human", "value": "hi"}], "chosen": {"from": "gpt", "value": "good"},
     "rejected": {"from": "gpt", "value": "bad"}},
    {"chosen_messages": said("hi", "good"), "rejected_messages": said("hi", "bad")},
    {"input": "hi", "output_1": "bad", "output_2": "good", "label": 2},
    {"instruction": "hi", "input": "", "output_1": "good", "output_2": "bad", "preference": 1},
    {"prompt": "hi", "response 1": "bad", "response 2": "good", "label": 1, "scenario": "chat"},
    {"instruction": "hi", "input": "", "response1": "bad", "response2": "good", "annotator1": 2, "annotator2": 2, "annotator3": 0},
    {"prompt": "hi", "response_0": "good", "response_1": "bad", "better_response_id": 0},
    {"conversation_a": said("hi", "bad"), "conversation_b": said("hi", "good"), "winner": "model_b", "model_a": "x", "model_b": "y"},
    {"prompt": "\n\nHuman: hi\n\nAssistant: ", "answers": [{"answer": "bad", "rank": 2.0}, {"answer": "good", "rank": 1.0}]},
    {"instruction": "hi", "completions": [{"response": "bad", "overall_score": 1.0}, {"response": "good", "overall_score": 9.0}]},
    {"prompt": "hi", "responses": ["bad", "good"], "scores": [0.1, 0.2]},
    {"question": "hi", "m": {"is_correct": False, "solution": "bad"}, "n": {"is_correct": True, "solution": "good"}},
    {"prompt": {"text": "hi", "role": "prompter", "replies": [{"text": "good", "rank": 0, "replies": []}, {"text": "bad", "rank": 1}]}},
])  # fmt: skip
def test_preferences_put_the_best_first(row):
    messages, meta = read(row)
    assert messages == [*said("hi", "good"), {"role": "assistant", "content": "bad"}]
    preference = preference_of(messages, json.dumps(meta))
    assert preference is not None
    assert preference.prompt == said("hi")
    assert [(c.messages[0]["content"], c.rank) for c in preference.completions] == [("good", 1), ("bad", 2)]


def test_ratings_ties_and_models_are_kept():
    _, meta = read({"prompt": "hi", "chosen": "a", "rejected": "b", "metadata": {"score_chosen": 9, "score_rejected": 8.5}})
    assert [c["rating"] for c in meta["preference"]["completions"]] == [9.0, 8.5]
    _, meta = read({"instruction": "hi", "completions": [{"response": x, "rating": r, "model": x} for x, r in (("a", 1), ("b", 5), ("c", 5))]})
    assert [(c["model"], c["rank"]) for c in meta["preference"]["completions"]] == [("b", 1), ("c", 1), ("a", 3)]
    _, meta = read({"input": "hi", "response 1": "a", "response 2": "b", "label": 2})
    assert [c["rank"] for c in meta["preference"]["completions"]] == [1, 1]


def test_transcripts_part_at_the_last_answer_before_which_they_are_alike():
    row = {"chosen": DIALOGUE + "go", "rejected": DIALOGUE + "stay"}
    messages, meta = read(row)
    assert messages == [*said("hi", "hello", "bye", "go"), {"role": "assistant", "content": "stay"}]
    assert meta["preference"]["prompt"] == 3
    messages, meta = read({"chosen": DIALOGUE + "go", "rejected": DIALOGUE.replace("bye", "well") + "stay"})
    assert [c["messages"] for c in meta["preference"]["completions"]] == [3, 3]
    assert [m["content"] for m in messages] == ["hi", "hello", "bye", "go", "hello", "well", "stay"]


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("row", [{"prompt": "Q", "completion": "R"}, {"messages": [U, A]}])
def test_labelled_rows_say_whether_the_answer_was_wanted(row, good):
    messages, meta = read({**row, "label": good})
    assert messages == [U, A]
    assert meta["preference"] == {"prompt": 1, "completions": [{"messages": 1, "good": good}]}


def test_columns_can_be_given_a_meaning():
    row = {"text": "Write", "code": "x = 1"}
    assert read(row, columns={"instruction": "text", "output": "code"})[0] == said("Write", "x = 1")
    assert read({"text": "hello"}, columns={})[0] is None
    with pytest.raises(DataError, match=r"f#L1 has no column 'body', which Rows\.columns names; it has 'text', 'code'"):
        read(row, columns={"output": "body"})


def test_prompts_alone_are_read_where_they_are_asked_for():
    assert read({"prompt": "Q", "key": 1}, form="prompt") == ([U], {"form": "prompt"})
    assert read({"messages": [S, U, A]}, form="prompt") == ([S, U], {"form": "prompt"})
    assert read({"turns": ["Q", "and?"]}, form="prompt") == ([U], {"form": "prompt", "ignored": {"later turns": 1}})
    with pytest.raises(DataError, match="f#L1 has no column 'text'; it has 'prompt'"):
        read({"prompt": "Q"})


@pytest.mark.parametrize(("row", "why"), [
    ({"prompt": "Q", "completion": ""}, r"f#L1: messages\[1\]\.content=''"),
    ({"prompt": "Q", "completion": ["x"]}, r"f#L1: completion\[0\]='x' is not a message"),
    ({"prompt": "Q", "completion": True}, "f#L1: completion=True is not a text"),
    ({"instruction": 3, "output": "x"}, "f#L1: instruction=3 is not a text"),
    ({"messages": {"role": "user"}}, "f#L1: messages=.* is not a list"),
    ({"messages": []}, "f#L1: a conversation needs at least one message"),
    ({"conversations": [{"from": "gpt", "value": "hi"}]}, r"f#L1: messages\[0\]\.role='assistant' where 'user' is due"),
    ({"conversations": [{"from": "martian", "value": "hi"}]}, r"f#L1: messages\[0\]\.role='martian' is unknown"),
    ({"chosen": "a", "rejected": "b"}, "f#L1: the answers have no prompt before them"),
    ({"prompt": "Q", "chosen": "a", "rejected": ""}, r"f#L1: messages\[1\]\.content=''"),
    ({"input": "Q", "output_1": "a", "output_2": "b", "label": 7}, "f#L1: label=7 is not one of 1, 2, 0"),
    ({"instruction": "Q", "completions": [{"model": "x"}]}, r"f#L1: completions\[0\] has no text"),
    ({"prompt": {"text": "Q", "replies": []}}, "f#L1: the tree has no reply"),
    ({"a": 1}, r"f#L1 has no column 'text'; it has 'a'; choose one with Files\(text_column=…\), or say what they mean with Rows"),
])  # fmt: skip
def test_odd_rows_are_named_with_a_remedy(row, why):
    with pytest.raises(DataError, match=why):
        read(row)


NAMES = st.sampled_from([
    "messages", "conversations", "prompt", "instruction", "question", "input", "output", "completion", "answer", "system", "history", "turns",
    "reference", "instances", "options", "chosen", "rejected", "label", "winner", "metadata", "tools", "replies", "text", "responses", "scores",
    "output_1", "output_2", "preference", "conversation_a", "conversation_b",
])
ODD = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 3), st.floats(), st.sampled_from(["", "hi", "user", "[{}]", DIALOGUE])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(NAMES, st.sampled_from(["role", "content", "from", "value"])), inner, max_size=3),
        st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool", "x"]), "content": inner}), max_size=3),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(row=st.dictionaries(NAMES, ODD, min_size=1, max_size=4), form=st.sampled_from(["auto", "prompt"]))
def test_any_row_is_read_or_refused(row, form):
    try:
        document = to_document(row, "f#L1", "f", "body", (), Rows(form=form))
    except DataError:
        return
    assert to_batch([document]).num_rows == 1
    assert document.messages
    preference = preference_of(document.messages, document.meta)
    check_messages(document.messages if preference is None else [*preference.prompt, *preference.completions[0].messages])


def test_bad_rows_are_counted_where_that_is_asked_for(tmp_path):
    lines = ['{"prompt": "Q", "completion": "R"}', "not json", '{"prompt": "Q", "completion": ""}', '{"prompt": "Q2", "completion": "R"}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="line 2: not JSON"):
        list(Files(path=str(tmp_path)).batches())
    source, damage = Files(path=str(tmp_path), rows=Rows(on_bad_row="count")), []
    batches = list(source.batches(on_damage=damage.append))
    assert [id for batch in batches for id in batch["id"].to_pylist()] == [f"{tmp_path.name}/x.jsonl#L1", f"{tmp_path.name}/x.jsonl#L4"]
    assert [(d.id.rpartition("#")[2], d.reason[:20]) for d in damage][1] == ("L3", "messages[1].content=")
    assert "not JSON" in damage[0].reason


def test_parquet_rows_are_read_alike(tmp_path):
    row = {"prompt": "hi", "chosen": said("hi", "a"), "rejected": said("hi", "b"), "score_chosen": 3.0, "score_rejected": 1.0}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    first, second = (r for file in ("x.jsonl", "x.parquet") for b in Files(path=str(tmp_path / file)).batches() for r in b.to_pylist())
    assert (first["messages"], first["meta"], first["text"]) == (second["messages"], second["meta"], second["text"])
    assert json.loads(first["meta"])["preference"]["completions"][0]["rating"] == 3.0


def test_all_that_is_said_is_text_for_the_filters_to_judge():
    document = to_document({"prompt": "hi", "chosen": "good", "rejected": "bad"}, "f#L1", "f", "text", ())
    assert document.text == "hi\n\ngood\n\nbad"


def test_meta_columns_stand_beside_the_form():
    document = to_document({"prompt": "Q", "completion": "R", "url": "u"}, "f#L1", "f", "text", ("url",))
    assert json.loads(document.meta or "") == {"form": "prompt_completion", "instruction": "Q", "output": "R", "url": "u"}


def test_a_row_may_be_a_text_by_itself():
    assert to_document("hello", "f#R1", "f", "text", ()) == Document("f#R1", "hello", "f")
    with pytest.raises(DataError, match="f#R1 is int, not an object with columns"):
        to_document(3, "f#R1", "f", "text", ())


def test_the_rows_of_a_json_file_may_stand_in_a_field():
    assert rows_of({"canary": "x", "examples": [{"input": "a", "target": "b"}]}) == [{"input": "a", "target": "b"}]
    for one in ({"messages": [U, A]}, {"instruction": "Q", "instances": [{"output": "R"}]}, {"text": "a"}, [1], {"a": [{}], "b": [{}]}):
        assert rows_of(one) == (one if isinstance(one, list) else [one])
