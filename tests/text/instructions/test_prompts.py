"""Prompts for documents, wordings for instructions, and prompts as people type them: the same ones for the same id and seed."""

from __future__ import annotations

import json
import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.text.documents import Document, conversation, to_batch
from bloomery.text.filters import Reword, Vary, WritingPrompts
from bloomery.text.instructions import Case, DroppedPunctuation, Rake, ReorderedSentences, Synonyms, Templates, TextRank, Typos
from bloomery.text.instructions.keyphrases import content_runs
from bloomery.text.readers.rows import to_document

ABSTRACT = """Compatibility of systems of linear constraints over the set of natural numbers. Criteria of compatibility of a system of linear
Diophantine equations, strict inequations, and nonstrict inequations are considered. Upper bounds for components of a minimal set of solutions
and algorithms of construction of minimal generating sets of solutions for all types of systems are given. These criteria and the corresponding
algorithms for constructing a minimal supporting set of solutions can be used in solving all the considered types of systems and systems of
mixed types."""


def after(filter, *documents):
    """The documents as a filter leaves them, as dicts with `meta` read."""
    verdicts = filter(to_batch(documents))
    return [row | {"meta": json.loads(row["meta"] or "{}")} for row in verdicts.batch.to_pylist()]


def test_rake_finds_the_phrases_of_its_papers_example():
    found = Rake(count=9)(ABSTRACT)
    assert {"minimal generating sets", "linear diophantine equations", "minimal supporting set", "minimal set"} <= set(found)
    assert {"natural numbers", "linear constraints", "strict inequations", "upper bounds"} & set(found)


def naive_textrank(text, window, damping):
    """Scores word by word, without arrays."""
    flat = [word for run in content_runs(text) for word in run]
    edges = Counter()
    for i, word in enumerate(flat):
        for other in flat[i + 1 : i + 1 + window]:
            edges[word, other] += 1
            edges[other, word] += 1
    scores = dict.fromkeys(flat, 1.0)
    for _ in range(60):
        degree = {word: sum(n for (a, _), n in edges.items() if a == word) for word in scores}
        scores = {w: 1 - damping + damping * sum(n * scores[a] / degree[a] for (a, b), n in edges.items() if b == w) for w in scores}
    return scores


def test_textrank_equals_its_definition_and_names_what_the_text_is_about():
    rank = TextRank(window=2)
    scores, expected = rank.scores(content_runs(ABSTRACT)), naive_textrank(ABSTRACT, 2, rank.damping)
    assert scores == pytest.approx(expected, abs=1e-4)
    assert sorted(scores, key=lambda word: -scores[word])[:3] == sorted(expected, key=lambda word: -expected[word])[:3]
    assert "systems" in sorted(scores, key=lambda word: -scores[word])[:5]


@pytest.mark.parametrize("phrases", [Rake(), TextRank()])
@pytest.mark.parametrize("text", ["", "the of and", "bees", "…!?", "a\x00b", "word " * 50_000])
def test_odd_texts_have_few_phrases_or_none(phrases, text):
    assert phrases(text) == (["bees"] if text == "bees" else [])


def test_a_wording_is_chosen_by_id_and_seed_among_those_that_can_be_filled():
    some = Templates(wordings=("a {x}", "b {x}", "c {y}", "d {x} {y}"))
    assert [some.fill(f"d{i}", {"x": "1", "y": ""}) for i in range(50)] == [some.fill(f"d{i}", {"x": "1"}) for i in range(50)]
    assert {some.fill(f"d{i}", {"x": "1"}) for i in range(50)} == {"a 1", "b 1"}
    assert some.fill("d", {}) is None
    assert [some.replace(seed=1).fill(f"d{i}", {"x": "1"}) for i in range(50)] != [some.fill(f"d{i}", {"x": "1"}) for i in range(50)]
    assert Templates(wordings=("{x} {y}",)).fill("d", {"x": "{y}", "y": "\\1 {x}"}) == "{y} \\1 {x}"


def test_documents_become_answers_to_a_request_for_them():
    document = Document("b#1", "Bees fly. " * 3, "s", None, json.dumps({"title": "On\nbees", "author": "Ann"}))
    [row] = after(WritingPrompts(), document)
    asked, answer = row["messages"]
    assert (asked["role"], answer["role"], answer["content"]) == ("user", "assistant", "Bees fly. " * 3)
    assert row["meta"] == {"title": "On\nbees", "author": "Ann", "form": "writing_prompt", "instruction": asked["content"]}
    assert "On bees" in asked["content"] or "bees fly" in asked["content"]
    assert row["text"] == f"{asked['content']}\n\n{answer['content']}"
    requests = [after(WritingPrompts(), document._replace(id=f"b#{i}"))[0]["meta"]["instruction"] for i in range(60)]
    assert len(set(requests)) >= 8


def test_titles_key_words_and_abstracts_are_used_as_they_are_known():
    known = {"title": "T", "keywords": ["k1", "k2"], "abstract": "The abstract."}
    asked = Templates(wordings=("{title}: {keywords}",))
    [row] = after(WritingPrompts(templates=asked), Document("a", "text", "s", None, json.dumps(known)))
    assert row["messages"][0]["content"] == "T: k1, k2"
    [row] = after(WritingPrompts(templates=asked, answer="abstract"), Document("a", "text", "s", None, json.dumps(known)))
    assert row["messages"][1]["content"] == "The abstract."
    untitled = Document("a", "text", "s")
    [row] = after(WritingPrompts(templates=asked, keyphrases=None), untitled)
    assert row["messages"] is None


def test_what_cannot_be_asked_for_stays():
    talk = conversation("c", "s", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}])
    assert [row["messages"] for row in after(WritingPrompts(), talk, Document("e", " ", "s"))] == [talk.messages, None]


def rows(n, **row):
    return [to_document(row, f"r{i}", "s", "text", ()) for i in range(n)]


def test_instruction_and_input_are_laid_out_in_several_ways():
    prompts = [row["messages"][0]["content"] for row in after(Reword(), *rows(60, instruction="Add up", input="1 2", output="3"))]
    assert len(set(prompts)) >= 5
    assert all("Add up" in prompt and "1 2" in prompt for prompt in prompts)
    [row] = after(Reword(templates=Templates(wordings=("Do: {instruction}", "{input}?"))), *rows(1, instruction="Sing", output="la"))
    assert row["messages"] == [{"role": "user", "content": "Do: Sing"}, {"role": "assistant", "content": "la"}]
    assert row["meta"]["reworded"] is True


def test_what_a_filter_has_masked_is_not_put_back():
    [document] = rows(1, instruction="Write to ann@x.org", output="done")
    masked = document._replace(messages=[{"role": "user", "content": "Write to [email]"}, document.messages[1]])
    assert after(Reword(), masked)[0]["messages"] == masked.messages


@pytest.mark.parametrize(("change", "before", "expected"), [
    (Case(to="lower"), "Who is Ann?", "who is ann?"), (Case(to="upper"), "a b", "A B"), (Case(to="uncapitalised"), "Who Is", "who Is"),
    (DroppedPunctuation(), "Well, how much is 3.5? Tell me!", "Well how much is 3.5 Tell me"),
    (Synonyms(rate=0), "Explain this", "Explain this"), (Typos(rate=0), "Explain this", "Explain this"),
    (ReorderedSentences(), "Only one.\nrest. of it", "Only one.\nrest. of it"),
])  # fmt: skip
def test_variations_do_what_they_say(change, before, expected):
    assert change(before, Random(0)) == expected


def test_typing_noise_stays_small_and_in_words():
    text = "Please explain how the 365 days of a year are counted in 12 months" * 20
    noisy = Typos(rate=0.05)(text, Random(1))
    assert noisy != text
    assert re.findall(r"\d+", noisy) == re.findall(r"\d+", text)
    assert abs(len(noisy) - len(text)) < 0.05 * len(text)
    assert [w[0] for w in noisy.split()] == [w[0] for w in text.split()]


def test_synonyms_keep_capitals_and_sentences_keep_their_words():
    assert Synonyms(rate=1)("Explain the error", Random(0)).split()[0] in {"Describe", "Clarify"}
    sentences = "One is red. Two is blue! Is three?"
    orders = {ReorderedSentences()(sentences, Random(seed)) for seed in range(20)}
    assert len(orders) > 2
    assert all(sorted(order.split()) == sorted(sentences.split()) for order in orders)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=80), seed=st.integers(0, 99))
def test_variations_are_pure_and_total(text, seed):
    for change in (Typos(rate=0.5), Case(), Synonyms(rate=1), DroppedPunctuation(), ReorderedSentences()):
        assert change(text, Random(seed)) == change(text, Random(seed))


def test_a_share_of_the_prompts_is_varied_and_no_answer_is():
    documents = rows(400, instruction="Please explain, why is the question hard? Find an error.", output="Explain this, Ann.")
    varied = after(Vary(share=0.3), *documents)
    changed = [row for row in varied if "varied" in row["meta"]]
    assert 80 < len(changed) < 160
    assert {row["meta"]["varied"][0] for row in changed} == {"Typos", "Case", "Synonyms", "DroppedPunctuation"}
    assert {row["messages"][1]["content"] for row in varied} == {"Explain this, Ann."}
    assert [row["messages"] for row in after(Vary(share=0.3), *documents)] == [row["messages"] for row in varied]
    assert [row["messages"] for row in after(Vary(share=0.3, seed=1), *documents)] != [row["messages"] for row in varied]
