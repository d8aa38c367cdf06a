"""lm-evaluation-harness asks our model in process and over HTTP, and both give the numbers that we measure ourselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing

from bloomery.cli.main import cli
from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.evals import EvalTask, Generative, MultipleChoice, Prompt, Respondent, TextLikelihood
from bloomery.generate import Decoding, Writer, complete
from bloomery.models import write_model
from bloomery.nn import SequenceLayout
from bloomery.store import Artifact, Store
from bloomery.text.readers import Files, Rows
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


def asking(there: House, folder: Path, **more) -> LocalCompletionsAPI:
    """Our model as the harness asks any server, with a tokenizer as transformers reads it."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "bos_token": "<|begin|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return LocalCompletionsAPI(
        model="small", base_url=f"{there.url}/completions", tokenizer=str(folder), tokenizer_backend="huggingface", num_concurrent=1,
        max_retries=1, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def over_http(there: House, tmp_path_factory) -> LocalCompletionsAPI:
    """It, with our tokenizer."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    TOKENIZER.save(folder / "tokenizer.json")
    return asking(there, folder)


@pytest.fixture(scope="module")
def begun_over_http(there: House, tmp_path_factory) -> LocalCompletionsAPI:
    """It, with one that begins texts with `<|begin|>`."""
    folder: Path = tmp_path_factory.mktemp("begins")
    TOKENIZER.save(folder / "tokenizer.json")
    begins = Backend.from_file(str(folder / "tokenizer.json"))
    begins.post_processor = TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", TOKENIZER.begin)])
    begins.save(str(folder / "tokenizer.json"))
    return asking(there, folder, add_bos_token=True)


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


CHOICES = {
    "output_type": "multiple_choice", "doc_to_text": "{{question}}?", "doc_to_choice": "choices", "doc_to_target": "answer",
    "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "brier_score")],
}  # fmt: skip
SHOWN = [{"question": "what is up", "choices": ["sky", "sea"], "answer": 0}, {"question": "who", "choices": ["me", "him"], "answer": 1}]
TEXTS = [{"text": "a short text of words"}, {"text": "another é one, that is longer"}, {"text": "x"}]
STOPS, LONGEST = ("e", "\n"), 12


def said() -> list[dict[str, str]]:
    """Questions of which the model answers two as expected."""
    asked = ["what is red", "who sings", "where is it"]
    written = Writer(MODEL, TOKENIZER, Decoding(stops=STOPS, max_new_tokens=LONGEST)).write(
        [[TOKENIZER.begin, *TOKENIZER.encode(f"{q}:")] for q in asked])  # fmt: skip
    return [{"q": q, "a": one.text if i < 2 else "otherwise"} for i, (q, one) in enumerate(zip(asked, written, strict=True))]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Files]:
    """The rows of the tasks, as ours read them."""
    folder, found = tmp_path_factory.mktemp("rows"), {}
    fours = [{**one, "choices": (one["choices"] * 2)[:3]} for one in QUESTIONS]  # as the harness's Brier score wants them: of one number
    for name, rows in {"asked": fours, "shown": SHOWN, "texts": TEXTS, "said": said()}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        found[name] = Files(path=str(folder / f"{name}.jsonl"), rows=Rows(form="columns"))
    return found


def ours_of(files) -> dict[str, EvalTask]:
    """Tasks as values of ours."""
    prompt = Prompt(ask="{question}?")
    chosen = MultipleChoice(name="chosen", rows=files["asked"], gold="answer", prompts=(prompt,))
    written = Generative(
        name="said", rows=files["said"], expected="a", prompts=(Prompt(ask="{q}:"),), ignored=(r"\W",),
        decoding=Decoding(stops=STOPS, max_new_tokens=LONGEST),
    )  # fmt: skip
    return {
        "chosen": chosen, "shown": chosen.replace(name="shown", examples=files["shown"], shots=2),
        "texts": TextLikelihood(name="texts", rows=files["texts"]), "said": written,
    }  # fmt: skip


def theirs_of(files, tasks) -> list[dict]:
    """The same as the harness has them; of examples in the order in which ours draws them."""
    order = [row.columns for row in tasks["shown"].parts()[1]]

    def task(name, rows, **fields):
        files_of = {"test": rows} if isinstance(rows, str) else rows
        return {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files_of}, "test_split": "test"} | fields

    drawn = Path(files["shown"].path).with_name("drawn.jsonl")
    drawn.write_text("".join(json.dumps({name: row[name] for name in SHOWN[0]}) + "\n" for row in order))
    return [
        task("chosen", files["asked"].path, num_fewshot=0, **CHOICES),
        task("shown", {"test": files["asked"].path, "train": str(drawn)}, num_fewshot=2, fewshot_split="train",
             fewshot_config={"sampler": "first_n"}, **CHOICES),
        task("texts", files["texts"].path, output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{text}}",
             metric_list=[{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")]),
        task("said", files["said"].path, output_type="generate_until", doc_to_text="{{q}}:", doc_to_target="{{a}}",
             generation_kwargs={"until": list(STOPS), "max_gen_toks": LONGEST},
             metric_list=[{"metric": "exact_match", "regexes_to_ignore": [r"\W"]}]),
    ]  # fmt: skip


NAMES = {
    "accuracy": "acc", "accuracy_per_character": "acc_norm", "accuracy_per_byte": "acc_bytes", "accuracy_unconditional": "acc_mutual_info",
    "brier": "brier_score", "word_perplexity": "word_perplexity", "byte_perplexity": "byte_perplexity", "bits_per_byte": "bits_per_byte",
    "exact": "exact_match",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("where", ["in process", "by name", "over HTTP", "over HTTP by name"])
def test_tasks_of_the_harness_give_the_numbers_of_our_own(where, there, over_http, begun_over_http, files, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    tasks, respondent = ours_of(files), Respondent("small", MODEL, TOKENIZER)
    theirs = theirs_of(files, tasks)

    def told(model, tasks, arguments=None):
        return lm_eval.simple_evaluate(model=model, model_args=arguments, tasks=tasks, bootstrap_iters=2)["results"]

    if where == "over HTTP":  # of whole texts the harness says itself what they begin with, and would have it twice
        whole = [task for task in theirs if task["task"] == "texts"]
        found = told(begun_over_http, [task for task in theirs if task not in whole]) | told(over_http, whole)
    elif where == "by name":
        found = told("bloomery", theirs, f"path={left_by(tmp_path / 'store').path}")
    elif where == "over HTTP by name":
        found = told("bloomery-served", theirs, f"path={left_by(tmp_path / 'store').path},model=small,base_url={there.url}/completions")
    else:
        found = told(Harnessed(MODEL, TOKENIZER), theirs)
    compared = 0
    for name, task in tasks.items():
        (sitting,) = task.sittings(respondent)
        for measure, of in sitting.measures.items():
            if measure not in NAMES:
                continue
            assert found[name][f"{NAMES[measure]},none"] == pytest.approx(of.value, rel=1e-6, abs=1e-6), (name, measure)
            if NAMES[measure].startswith("acc"):
                assert found[name][f"{NAMES[measure]}_stderr,none"] == pytest.approx(of.estimate().error, abs=1e-9), (name, measure)
            compared += 1
    assert compared == 2 * 5 + 3 + 1
    assert found["said"]["exact_match,none"] == pytest.approx(2 / 3)


def test_what_the_harness_is_told_of_a_model_is_checked(tmp_path):
    artifact = left_by(tmp_path)
    made = Harnessed.create_from_arg_string(f"path={artifact.path},tokens_at_once=64", {"batch_size": 1, "device": None})
    assert made.tokens_at_once == 64
    for wrong, said in (("", "no path"), (f"path={artifact.path},colour=red", "colour")):
        with pytest.raises(ConfigError, match=said):
            Harnessed.create_from_arg_string(wrong)
    (artifact.path / "model" / "model.safetensors").write_bytes(b"x" * (artifact.path / "model" / "model.safetensors").stat().st_size)
    with pytest.raises(ArtifactError, match="checksum"):
        Harnessed.create_from_arg_obj({"path": str(artifact.path)})


def left_by(folder: Path) -> Artifact:
    """The model in an artifact, as trainings leave it."""
    workspace = Store(folder).workspace("Train/small-0123456789ab")
    write_model(workspace.path / "model", MODEL.config, MODEL)
    TOKENIZER.save(workspace.path / "tokenizer" / "tokenizer.json")
    return workspace.finish(stage="Train", name="small", key="0123456789ab", fields={}, inputs={}, summary={})


@pytest.mark.slow
def test_the_harness_has_its_own_command_line_here(tmp_path, files, monkeypatch):
    pytest.importorskip("tcolorpy", reason="what the harness draws tables with is not installed")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    artifact = left_by(tmp_path / "store")
    task = theirs_of(files, ours_of(files))[0]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "chosen.yaml").write_text(json.dumps(task))  # JSON is YAML
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    done = CliRunner().invoke(cli, [
        "lm-eval", "--model", "bloomery", "--model_args", f"path={artifact.path}", "--tasks", "chosen",
        "--include_path", str(tmp_path / "tasks"), "--output_path", str(tmp_path / "out.json"),
    ], catch_exceptions=False)  # fmt: skip
    assert done.exit_code == 0
    (written,) = tmp_path.glob("out*.json")
    accuracy = ours_of(files)["chosen"].sittings(Respondent("small", MODEL, TOKENIZER))[0].measures["accuracy"].value
    assert json.loads(written.read_text())["results"]["chosen"]["acc,none"] == pytest.approx(accuracy)
