"""`bloomery generate`: many prompts, any decoding as a value, and going on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.cli import generate as verb
from bloomery.cli.chat import converse
from bloomery.cli.generate import BY, RULES, decoding_of, drafter_of, generate, prompts_in
from bloomery.cli.values import value_of
from bloomery.core.errors import ConfigError, DataError
from bloomery.generate import Beam, Decoding, Greedy, Json, NoRepeatNGram, OneOf, Random, Repetition, Writer
from bloomery.models import LlamaConfig, write_model
from bloomery.nn import FanInInit
from bloomery.stages.writing import WEIGHTS, writing
from bloomery.store import Artifact
from bloomery.store.artifact import FileRecord, Manifest
from bloomery.store.files import sha256_of
from bloomery.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["the quick brown fox jumps over the lazy dog"] * 20, vocab_size=290)
CONFIG = LlamaConfig(
    vocab_size=290, d_model=16, n_layers=1, n_heads=2, max_seq_len=40, tie_embeddings=False, init=FanInInit(gain=2.0, embedding=1.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Artifact:
    folder = tmp_path_factory.mktemp("Train") / "tiny-0"
    write_model(folder / "model", CONFIG, CONFIG.build(3))
    TOKENIZER.save(folder / "tokenizer" / "tokenizer.json")
    written = [path for path in folder.rglob("*") if path.is_file()]
    files = {str(path.relative_to(folder)): FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path)) for path in written}
    return Artifact(folder, Manifest(stage="Train", name="tiny", key="0", fields={}, inputs={}, files=files, summary={}, made={}))


def run(artifact: Artifact, lines: list[str], output: Path | None, **options) -> list[dict]:
    options = {"samples": 1, "seed": 0, "raw": True, "device": "cpu"} | options
    decoding = options.pop("decoding", Decoding(by=Random(temperature=1.5), max_new_tokens=5))
    generate(artifact, lines, decoding, output=output, **options)
    return [json.loads(line) for line in output.read_text().splitlines()] if output else []


def test_each_prompt_has_its_line_with_what_was_given(artifact, tmp_path, capsys):
    lines = ["the fox\n", "\n", '{"prompt": "dog", "id": 7}\n']
    found = run(artifact, lines, tmp_path / "out.jsonl", samples=2)
    assert [(one["number"], one["prompt"], one.get("id"), one["sample"]) for one in found] == [
        (0, "the fox", None, 0), (1, "the fox", None, 1), (2, "dog", 7, 0), (3, "dog", 7, 1),
    ]  # fmt: skip
    assert found[0]["text"] != found[1]["text"]
    assert "4 of 4 written" in capsys.readouterr().err
    generate(artifact, lines, Decoding(by=Random(temperature=1.5), max_new_tokens=5), output=None, samples=2, seed=0, raw=True, device="cpu")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == found


def test_a_text_is_that_of_its_prompt_and_seed_alone(artifact, tmp_path):
    many = run(artifact, ["fox", "dog", "the"], tmp_path / "many.jsonl")
    assert run(artifact, ["fox", "the dog", "jumps", "over"], tmp_path / "other.jsonl")[0] == many[0]
    assert run(artifact, ["fox"], tmp_path / "seed.jsonl", seed=1)[0] != many[0]


@pytest.mark.parametrize("draft", ["Ngram(n_tokens=4)", "Draft(model='Train/tiny', n_tokens=2)"])
def test_guesses_change_no_likeliest_text(artifact, tmp_path, draft, monkeypatch):
    monkeypatch.setattr(verb, "artifact_of", lambda text, store: artifact)
    drafter = drafter_of(draft, tmp_path)
    plain = Decoding(max_new_tokens=12)
    told = run(artifact, ["fox", "the dog"], tmp_path / "drafted.jsonl", decoding=plain.replace(draft=drafter))
    assert told == run(artifact, ["fox", "the dog"], tmp_path / "plain.jsonl", decoding=plain)
    with pytest.raises(ConfigError, match="another decoding"):
        run(artifact, ["fox", "the dog"], tmp_path / "drafted.jsonl", decoding=plain)


@pytest.mark.parametrize("weights", [None, "plain", *(weights for weights in WEIGHTS if weights != "compiled")])  # see test_compiled.py
def test_matrices_are_kept_as_asked(artifact, tmp_path, weights):
    kept = writing(artifact, "cpu", weights).blocks[0].mixer.out
    assert type(kept).__name__ == ("Linear" if weights in ("plain", "int4") else "KeptLinear")  # no group of 32 or more divides these rows
    run(artifact, ["fox"], tmp_path / "out.jsonl", weights=weights)
    if weights is not None:
        with pytest.raises(ConfigError, match="another weights"):
            run(artifact, ["fox"], tmp_path / "out.jsonl")


def test_an_interrupted_one_goes_on_and_ends_in_the_same_bytes(artifact, tmp_path, monkeypatch):
    lines, whole, cut = [f"fox {i}" for i in range(23)], tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    monkeypatch.setattr(verb, "AT_ONCE", 4)
    run(artifact, lines, whole)
    write, asked = Writer.write, []

    def dies(writer, prompts, *more):
        asked.append(len(prompts))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return write(writer, prompts, *more)

    monkeypatch.setattr(Writer, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        run(artifact, lines, cut)
    assert len(cut.read_text().splitlines()) == 12
    with cut.open("a") as file:
        file.write('{"number": 12, "te')  # half a line, as a kill leaves it
    run(artifact, lines, cut)
    assert cut.read_bytes() == whole.read_bytes()
    assert asked[4:] == [4, 4, 3]
    run(artifact, lines, cut)
    assert len(asked) == 7


@pytest.mark.parametrize(("change", "named"), [
    ({"seed": 1}, "another seed"), ({"samples": 2}, "another samples"), ({"decoding": Decoding(max_new_tokens=3)}, "another decoding"),
])  # fmt: skip
def test_the_output_of_other_settings_is_not_gone_on_with(artifact, tmp_path, change, named):
    run(artifact, ["fox"], tmp_path / "out.jsonl")
    with pytest.raises(ConfigError, match=named):
        run(artifact, ["fox"], tmp_path / "out.jsonl", **change)
    with pytest.raises(ConfigError, match="another prompts"):
        run(artifact, ["dog"], tmp_path / "out.jsonl")


def test_a_prompt_that_does_not_fit_is_told_and_stops_no_other(artifact, tmp_path):
    found = run(artifact, ["the quick brown fox " * 20, "fox"], tmp_path / "out.jsonl")
    assert "the model reads at most 39" in found[0]["fault"]
    assert found[1]["ended"] in ("length", "end")


@pytest.mark.parametrize(("line", "raw", "message"), [
    ('{"prompt": ', False, "line 2 of the prompts begins like JSON and is none"),
    ('{"text": "a"}', False, "line 2 of the prompts has no prompt and no messages; it has text"),
    ('{"messages": []}', True, "line 2 of the prompts has no prompt; it has messages"),
])  # fmt: skip
def test_a_line_that_is_no_prompt_is_named(line, raw, message):
    with pytest.raises(DataError, match=message):
        list(prompts_in(["fine", line], TOKENIZER, raw))


def test_prompts_are_turns_of_a_conversation_unless_they_are_raw():
    text, turns = prompts_in(['fox', '{"messages": [{"role": "user", "content": "fox"}]}'], TOKENIZER, False)
    assert text.ids == turns.ids != next(prompts_in(["fox"], TOKENIZER, True)).ids
    assert TOKENIZER.assistant in text.ids


def test_options_are_values_as_in_a_recipe():
    assert decoding_of(
        "Beam(n_beams=2, sampler=Random(top_k=3))", ["NoRepeatNGram(n=2)", "OneOf(texts=('a', \"b\"))", "Json(matching={'enum': [-1, None]})"],
        None, ["."], 9,
    ) == Decoding(
        by=Beam(n_beams=2, sampler=Random(top_k=3)), rules=(NoRepeatNGram(n=2), OneOf(texts=("a", "b")), Json(matching={"enum": [-1, None]})),
        stops=(".",), max_new_tokens=9,
    )  # fmt: skip
    assert decoding_of("Greedy", [], "DoLa(layers=(0, 2))", [], 5).contrast is not None
    assert value_of("Greedy()", "--by", BY) == Greedy()


@pytest.mark.parametrize(("text", "message"), [
    ("Bean(n_beams=2)", "--by knows no 'Bean'; did you mean 'Beam'?"), ("Beam(4)", r"write Beam\(name=value\)"),
    ("Beam(", "does not read as a value"), ("Beam(n_beams=open('x'))", "--by knows no 'open'"), ("Beam(**{})", "value without a name"),
    ("Beam(n_beams=1 + 1)", "does not read as a value"), ("(lambda: 1)()", "does not read as a value"), ("Beam(n_beams=0)", "Beam.n_beams=0"),
])  # fmt: skip
def test_what_is_no_value_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        value_of(text, "--by", BY)


def test_every_rule_can_be_given():
    import bloomery.generate as room
    from bloomery.generate import Grammar, Rule

    concrete = {kind for kind in vars(room).values() if isinstance(kind, type) and issubclass(kind, Rule) and kind not in (Rule, Grammar)}
    assert set(RULES.values()) == concrete


def test_a_conversation_follows_rules_and_stops(artifact, capsys):
    def said(**more: object) -> str:
        converse(artifact, temperature=0.0, top_p=1.0, max_new_tokens=9, seed=0, say=("the fox",), raw=True, **more)
        return capsys.readouterr().out.removeprefix("the fox").removesuffix("\n")

    assert said(rules=("OneOf(texts=('fox', 'dog'))",)) in ("fox", "dog")
    assert said(rules=("Repetition(factor=9.0)",)) != said()
    stop = next(letter for letter in said()[1:] if letter.isascii())
    assert said(stops=(stop,)) == said().partition(stop)[0]


def test_repetition_reads_back(artifact, tmp_path):
    settings = tmp_path / "out.jsonl.settings.json"
    run(artifact, ["fox"], tmp_path / "out.jsonl", decoding=Decoding(rules=(Repetition(factor=1.5),), max_new_tokens=2))
    assert json.loads(settings.read_text())["decoding"]["rules"] == [{"kind": "Repetition", "factor": 1.5}]
