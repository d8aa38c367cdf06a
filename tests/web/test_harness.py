"""lm-evaluation-harness asks our model in process and over HTTP, and both give the numbers that we measure ourselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bloomery.generate import complete
from bloomery.nn import SequenceLayout
from tests.web.house import MODEL, TOKENIZER, House

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: pip install 'bloomery[harness]'")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.openai_completions import LocalCompletionsAPI  # noqa: E402

from bloomery.evals.harness import Harnessed  # noqa: E402

QUESTIONS = [
    {"question": "what is red", "choices": ["a rose", "the sea", "snow is"], "answer": 0},
    {"question": "who sings", "choices": ["a stone", "a lark"], "answer": 1},
    {"question": "where is it", "choices": ["here", "there it is", "nowhere", "x"], "answer": 2},
    {"question": "when", "choices": ["now", "then"], "answer": 0},
]


@pytest.fixture(scope="module")
def over_http(there: House, tmp_path_factory) -> LocalCompletionsAPI:
    """Our model as the harness asks any server, with our tokenizer as transformers reads it."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    TOKENIZER.save(folder / "tokenizer.json")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "bos_token": "<|begin|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return LocalCompletionsAPI(
        model="small", base_url=f"{there.url}/completions", tokenizer=str(folder), tokenizer_backend="huggingface", num_concurrent=1,
        max_retries=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def in_process() -> Harnessed:
    """It, asked with the ids that the harness sends over HTTP: texts as they are."""
    return Harnessed(MODEL, TOKENIZER, begins=())


def pairs() -> list[tuple[str, str]]:
    return [(one["question"] + "?", " " + choice) for one in QUESTIONS for choice in one["choices"]]


def ours(context: str, continuation: str) -> float:
    """By the model itself."""
    before, after = TOKENIZER.encode(context), TOKENIZER.encode(continuation)
    ids = torch.tensor([[*before, *after]])
    with torch.no_grad():
        logprobs = MODEL(ids, SequenceLayout.rows(*ids.shape))[0, :, : MODEL.config.vocab_size].log_softmax(-1)
    return sum(float(logprobs[len(before) + i - 1, token]) for i, token in enumerate(after))


def requests(kind: str, arguments) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=one, idx=i) for i, one in enumerate(arguments)]


def test_likelihoods_are_ours_in_process_and_over_http(over_http, in_process):
    asked = requests("loglikelihood", pairs())
    here, there = in_process.loglikelihood(asked, disable_tqdm=True), over_http.loglikelihood(asked, disable_tqdm=True)
    expected = [ours(*pair) for pair in pairs()]
    assert [total for total, _ in here] == pytest.approx(expected, abs=1e-4)
    assert [total for total, _ in there] == pytest.approx([total for total, _ in here], abs=1e-4)
    assert [likeliest for _, likeliest in there] == [likeliest for _, likeliest in here]


def test_whole_texts_are_told_token_by_token(in_process):
    texts = ["a short text", "a text that is longer than the model reads, by quite a lot: " * 3]
    found = in_process.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,) for text in texts]))
    for text, total in zip(texts, found, strict=True):
        ids, told = [TOKENIZER.begin, *TOKENIZER.encode(text)], 0.0
        for start in range(0, len(ids) - 1, 95):
            row = torch.tensor([ids[start : start + 96]])
            with torch.no_grad():
                logprobs = MODEL(row, SequenceLayout.rows(*row.shape))[0].log_softmax(-1)
            told += float(logprobs[:-1].gather(-1, row[0, 1:, None]).sum())
        assert total == pytest.approx(told, abs=1e-3)


def test_texts_are_written_up_to_what_a_task_says(over_http, in_process):
    asked = [("what is red?", {"until": ["e", "\n"], "max_gen_toks": 12}), ("who sings", {"until": ["qq"], "max_gen_toks": 8})]
    here = in_process.generate_until(requests("generate_until", asked))
    assert over_http.generate_until(requests("generate_until", asked), disable_tqdm=True) == here
    (whole,) = complete(MODEL, [TOKENIZER.encode("who sings")], {TOKENIZER.end}, 8, vocab_size=TOKENIZER.vocab_size)
    assert here[1] == TOKENIZER.decode(whole)
    assert "e" not in here[0]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["in process", "over HTTP"])
def test_a_task_of_the_harness_gives_the_accuracy_that_we_count(where, over_http, in_process, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in QUESTIONS))
    task = {
        "task": "small_choices", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}?", "doc_to_choice": "choices",
        "doc_to_target": "answer", "metric_list": [{"metric": "acc"}], "num_fewshot": 0,
    }  # fmt: skip
    found = lm_eval.simple_evaluate(model=in_process if where == "in process" else over_http, tasks=[task], bootstrap_iters=0)
    right = 0
    for one in QUESTIONS:
        scores = [ours(one["question"] + "?", " " + choice) for choice in one["choices"]]
        right += scores.index(max(scores)) == one["answer"]
    assert found["results"]["small_choices"]["acc,none"] == pytest.approx(right / len(QUESTIONS), abs=1e-6)
