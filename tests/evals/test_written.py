"""What a model writes, what counts of it, and by what it is judged."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.evals import Generative, Outcome, Prompt
from bloomery.evals.texts import bleu, chrf, rouge
from bloomery.generate import Decoding, Random, Writer
from tests.evals.small import MODEL, SMALL, TOKENIZER, table

PROMPT = Prompt(ask="Q: {q}\nA:")
ROWS = [{"q": "who", "answer": "me"}, {"q": "where", "answer": ["here", "There!"]}, {"q": "a long one " * 12, "answer": "no"}]


def task(tmp_path, rows=ROWS, **fields) -> Generative:
    return Generative(**{"name": "said", "rows": table(tmp_path / "rows.jsonl", rows), "prompts": (PROMPT,)} | fields)


def test_answers_are_what_the_model_writes_to_the_prompt_whose_beginning_is_cut(tmp_path):
    decoding = Decoding(by=Random(temperature=1.0), stops=("e",), max_new_tokens=9)
    (sitting,) = task(tmp_path, decoding=decoding).sittings(SMALL)
    writer = Writer(MODEL, TOKENIZER, decoding.replace(by=Random(temperature=1e-6)))
    (greedy,) = task(tmp_path, decoding=decoding.replace(by=Random(temperature=1e-6))).sittings(SMALL)
    for row, one in zip(ROWS, greedy.outcomes, strict=True):
        ids = [TOKENIZER.begin, *TOKENIZER.encode(f"Q: {row['q']}\nA:")]
        assert one.said == writer.write([ids[-(96 - 9) :]])[0].text.strip()
    assert "e" not in "".join(one.said for one in sitting.outcomes)
    assert sitting.outcomes == task(tmp_path, decoding=decoding).sittings(SMALL)[0].outcomes
    assert sitting.outcomes != task(tmp_path, decoding=decoding, seed=1).sittings(SMALL)[0].outcomes
    assert greedy.outcomes[1].expected == ("here", "There!")


def test_what_counts_of_an_answer_is_taken_out_of_it(tmp_path):
    sums = task(tmp_path, taken=r"-?\d[\d,]*", which="last", taken_of_expected=r"####\s*(\S+)", ignored=(",",))
    assert sums._counted("3 and 4 make 1,234 in all", sums.taken, sums.which) == "1234"
    assert sums._counted("none", sums.taken, sums.which) == ""
    assert sums._counted("so it is\n#### 1,234", sums.taken_of_expected, "last") == "1234"
    assert sums.replace(which="first")._counted("3 and 4", sums.taken, "first") == "3"
    assert sums.replace(taken=r"is (\w+)")._counted("it is red", r"is (\w+)", "first") == "red"


def test_figures_are_those_of_their_own_functions(tmp_path):
    expected, said = ["the cat sat on the mat", "a dog", "x y z"], ["the cat sat on a mat", "A dog!", "q"]
    outcomes = [Outcome(str(i), "", (e,), s, {"exact": 0.0, "same_words": float(i == 1), "shared_words": 0.5})
                for i, (e, s) in enumerate(zip(expected, said, strict=True))]  # fmt: skip
    found = task(tmp_path, compared=("words", "bleu", "chrf", "rouge")).measured(outcomes, None)
    assert found["bleu"].value == pytest.approx(bleu(expected, said))
    assert found["chrf"].value == pytest.approx(chrf(expected, said))
    assert {name: found[name].value for name in ("rouge1", "rouge2", "rougeL")} == pytest.approx(rouge(expected, said))
    assert list(found)[:2] == ["same_words", "shared_words"]
    drawn = found["bleu"].figure(np.stack([found["bleu"].parts[:k].sum(0) for k in (1, 2, 3)]))
    assert drawn == pytest.approx([bleu(expected[:k], said[:k]) for k in (1, 2, 3)])
    drawn = found["chrf"].figure(np.stack([found["chrf"].parts[:k].sum(0) for k in (1, 2, 3)]))
    assert drawn == pytest.approx([chrf(expected[:k], said[:k]) for k in (1, 2, 3)])


def test_which_answers_are_wrong_goes_by_what_counts_first(tmp_path):
    assert task(tmp_path).right == "exact"
    words = task(tmp_path, compared=("words", "exact"), decoding=Decoding(max_new_tokens=3))
    (sitting,) = words.sittings(SMALL)
    assert sitting.right == "same_words"
    assert [one.id for one in sitting.wrong] == [one.id for one in sitting.outcomes if not one.numbers["same_words"]]


def test_rows_and_patterns_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no regular expression"):
        task(tmp_path, ignored=("(",))
    with pytest.raises(DataError, match=r"row 'rows.jsonl#L1'.*no expected answer"):
        task(tmp_path, rows=[{"q": "?", "answer": ""}], decoding=Decoding(max_new_tokens=2)).sittings(SMALL)
