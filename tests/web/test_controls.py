"""What a request says of how a text is written comes to what the same words come to in Python."""

from __future__ import annotations

import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bloomery.cli.ask import serve
from bloomery.core.errors import DataError
from bloomery.generate import (
    Beam,
    Contrastive,
    Decoding,
    DoLa,
    EarlyExit,
    LogitBias,
    NoRepeatedSentence,
    NoRepeatNGram,
    OneOf,
    Random,
    Repetition,
    Sampler,
    Writer,
)
from bloomery.web.controls import Controls
from bloomery.web.server import Limits
from tests.web.house import MODEL, TOKENIZER, House, house, wait_until
from tests.web.test_server import HELLO, LETTERS, TEXT, events, prompt_of

WAYS = {
    "typical": ({"typical_p": 0.5}, Decoding(by=Random(typical_p=0.5))),
    "all cuts": (
        {"temperature": 1.2, "top_k": 9, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.9},
        Decoding(by=Random(temperature=1.2, top_k=9, top_p=0.9, min_p=0.02, typical_p=0.9)),
    ),
    "the likeliest": ({"do_sample": False, "temperature": 1}, Decoding()),
    "no n-grams": ({"temperature": 0, "no_repeat_ngram_size": 1}, Decoding(rules=(NoRepeatNGram(n=1),))),
    "no sentences": ({"no_repeat_sentences": True, "temperature": 0.3}, Decoding(by=Random(temperature=0.3), rules=(NoRepeatedSentence(),))),
    "beams": ({"num_beams": 3}, Decoding(by=Beam(n_beams=3))),
    "beams, as vLLM has them": ({"use_beam_search": True, "temperature": 0}, Decoding(by=Beam())),
    "beams that end": (
        {"num_beams": 2, "length_penalty": 0.4, "early_stopping": True}, Decoding(by=Beam(n_beams=2, length_penalty=0.4, ends="full")),
    ),
    "beams that never end": (
        {"num_beams": 2, "length_penalty": 2, "early_stopping": "never"}, Decoding(by=Beam(n_beams=2, length_penalty=2.0, ends="never")),
    ),
    "drawn beams": (
        {"num_beams": 2, "do_sample": True, "temperature": 1.4, "top_k": 20},
        Decoding(by=Beam(n_beams=2, sampler=Random(temperature=1.4, top_k=20))),
    ),
    "groups of beams": (
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.8, "repetition_penalty": 1.2, "stop": ["e", "a"]},
        Decoding(by=Beam(n_beams=4, groups=2, diversity=0.8), rules=(Repetition(factor=1.2),), stops=("e", "a")),
    ),
    "beams of a list": ({"num_beams": 3, "guided_choice": ["yes", "no"]}, Decoding(by=Beam(n_beams=3), rules=(OneOf(texts=("yes", "no")),))),
    "contrastive": ({"penalty_alpha": 0.6, "top_k": 4}, Decoding(by=Contrastive(top_k=4, alpha=0.6))),
    "layers": ({"dola_layers": "low", "temperature": 0}, Decoding(contrast=DoLa(layers="low"))),
    "some layers": (
        {"dola_layers": [0, 1], "dola_relative_top": 0.02, "temperature": 0.8, "repetition_penalty": 1.2},
        Decoding(by=Random(temperature=0.8), contrast=DoLa(layers=(0, 1), relative_top=0.02), rules=(Repetition(factor=1.2),)),
    ),
    "layers and beams": ({"dola_layers": [1], "num_beams": 2}, Decoding(by=Beam(n_beams=2), contrast=DoLa(layers=(1,)))),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_text_is_that_of_a_writer_with_the_same_decoding_and_seed(idle: House, way):
    asked, decoding = WAYS[way]
    status, said, _ = idle.post(TEXT, prompt="once more", seed=7, max_tokens=9, **asked)
    assert status == 200, said
    written = Writer(MODEL, TOKENIZER, decoding.replace(max_new_tokens=9)).write([prompt_of("once more")], [7])[0]
    assert said["choices"][0]["text"] == written.text
    assert said["choices"][0]["finish_reason"] == ("length" if written.ended == "length" else "stop")
    assert said["usage"]["completion_tokens"] == len(written.tokens)
    pieces = events(idle, TEXT, prompt="once more", seed=7, max_tokens=9, logprobs=1, **asked)
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == written.text
    told = [token for piece in pieces for token in piece["choices"][0]["logprobs"]["tokens"]]
    assert len(told) == len(written.tokens) + (written.ended == "end")
    assert isinstance(decoding.by, Sampler) or len(pieces) == 1  # a search is told in the end


@pytest.mark.parametrize("way", WAYS)
def test_fields_come_to_the_decoding_that_they_name(way):
    asked, decoding = WAYS[way]
    assert Controls(**asked).decoding(9, 16) == decoding.replace(max_new_tokens=9)


def test_ways_differ():
    prompts = [prompt_of(text) for text in ("once more", "a b c", "why", "of the sea")]
    texts = [tuple(
        one.text for one in Writer(MODEL, TOKENIZER, decoding.replace(max_new_tokens=9)).write(prompts, [7] * 4)
    ) for _, decoding in WAYS.values()]  # fmt: skip
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(("asked", "said"), [
    ({"length_penalty": 2}, "length_penalty=2.0 is of a beam search, and there is none; set num_beams to 2"),
    ({"early_stopping": "never"}, "set num_beams"), ({"num_beam_groups": 2}, "set num_beams"), ({"diversity_penalty": 1}, "set num_beams"),
    ({"num_beams": 1, "length_penalty": 2}, "set num_beams to 2 or more"),
    ({"num_beams": 4, "use_beam_search": False}, "use_beam_search is false, and num_beams=4"),
    ({"num_beams": 4, "temperature": 0.7}, "temperature=0.7 is of what is drawn, and num_beams=4 follows the likeliest ways; set do_sample"),
    ({"num_beams": 4, "typical_p": 0.7}, "set do_sample to true"), ({"num_beams": 4, "n": 2}, "n=2 texts would be the same one"),
    ({"num_beams": 4, "num_beam_groups": 3}, "num_beam_groups=3 does not part num_beams=4 evenly; 4 would"),
    ({"num_beams": 4, "diversity_penalty": 1}, "set num_beam_groups to 4"), ({"num_beams": 9}, "num_beams=9 ways would be followed at once, "),
    ({"num_beams": 4, "num_beam_groups": 2, "do_sample": True}, "leave out do_sample"),
    ({"num_beams": 4, "do_sample": True, "temperature": 0}, "temperature=0 leaves nothing to draw"),
    ({"do_sample": True, "temperature": 0}, "temperature=0 takes the likeliest"), ({"do_sample": False, "min_p": 0.1}, "min_p=0.1 is of"),
    ({"penalty_alpha": 0.6, "num_beams": 2}, "penalty_alpha=0.6 is a search of its own"), ({"penalty_alpha": 0.6, "top_k": 9}, "top_k=9"),
    ({"penalty_alpha": 0.6, "top_p": 0.9}, "top_p=0.9 is of what is drawn"), ({"penalty_alpha": 0.6, "do_sample": True}, "leave out do_sample"),
    ({"penalty_alpha": 0.6, "dola_layers": "high"}, "dola_layers='high' does not go with penalty_alpha=0.6"),
    ({"penalty_alpha": 0.6, "length_penalty": 0.5}, "length_penalty=0.5 does not go with"), ({"penalty_alpha": 0.6, "n": 2}, "n=2"),
    ({"dola_relative_top": 0.5}, "dola_relative_top=0.5 is of dola_layers"), ({"dola_layers": [7]}, "dola_layers: DoLa.layers=(7,) does"),
    ({"dola_layers": "middle"}, "dola_layers"), ({"dola_layers": []}, "dola_layers"), ({"dola_layers": [-1]}, "0 to 1 come before"),
    ({"early_stopping": "often"}, "early_stopping"), ({"logit_bias": {"9" * 5000: 1}}, "is no token id"),
    ({"n": 2, "use_beam_search": True}, "n=2"),
])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_go_together_is_refused_with_the_field_and_the_remedy(narrow: House, asked, said, stream):
    status, answer, _ = narrow.post(TEXT, prompt="x", max_tokens=2, stream=stream, **asked)
    assert status == 400, answer
    assert said in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"


@pytest.fixture(scope="module")
def narrow():
    with house(Limits(rows=4, beams=8)) as running:
        yield running


def test_controls_that_say_nothing_come_to_nothing():
    idle = {name: field.default for name, field in Controls.model_fields.items() if field.default is not None}
    assert Controls(**idle).decoding(5, 4) == Decoding(by=Random(), max_new_tokens=5)
    assert Controls(penalty_alpha=0.5).decoding(5, 3).by == Contrastive(top_k=3, alpha=0.5)
    assert Controls(use_beam_search=True).decoding(5, 2).by == Beam(n_beams=2)
    with pytest.raises(DataError, match="give 2 or fewer"):
        Controls(num_beams=3).decoding(5, 2)


def test_help_names_every_control():
    assert all(re.search(rf"\b{name}\b", serve.epilog) for name in Controls.model_fields)


def test_streams_go_on_while_others_search_and_who_leaves_has_the_search_dropped(narrow: House):
    endless = {str(TOKENIZER.end): -100}
    body = {"model": "small", "prompt": "on and on", "num_beams": 8, "max_tokens": 80, "length_penalty": 5, "early_stopping": "never"}
    data = json.dumps(body | {"logit_bias": endless}).encode()
    engine, worker = narrow.served.worker.engine, narrow.served.worker
    paused, ask = threading.Event(), threading.Thread(target=lambda: narrow.post(TEXT, prompt="a", max_tokens=3))
    worker._inbox.put(lambda: paused.wait(20))  # so that both are there before either begins
    with socket.create_connection(("127.0.0.1", narrow.port)) as client:
        client.sendall(f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        wait_until(lambda: worker._taken == 1)
        ask.start()
        wait_until(lambda: worker._taken == 2)
        cancelled = narrow.metric("bloomery_cancelled_total")
        stepped, seen = engine.step, []

        def step():
            moved = stepped()
            seen.append((engine.live, [job.ended for job in moved]))
            return moved

        engine.step = step
        paused.set()
        ask.join(20)
    wait_until(lambda: engine.live == engine.waiting == worker._taken == 0)
    del engine.step
    first = next(i for i, (_, ended) in enumerate(seen) if any(ended))
    assert first < 6  # the short text is there although the search had begun before it
    assert seen[first][0] == 1  # and goes on
    assert narrow.metric("bloomery_cancelled_total") == cancelled + 1


def test_how_many_guesses_stood_is_told_where_there_are_some(idle: House):
    assert "completion_tokens_details" not in idle.post(TEXT, prompt="x", max_tokens=9)[1]["usage"]
    with house(Limits(rows=2), draft=EarlyExit(n_layers=1, n_tokens=3)) as there:
        body = {"messages": HELLO, "temperature": 0, "max_tokens": 30, "logit_bias": LETTERS}
        used = there.post("/v1/chat/completions", **body)[1]["usage"]
        told = used["completion_tokens_details"]
        assert 0 <= told["accepted_prediction_tokens"] < used["completion_tokens"] == 30
        guessed = sum(told.values())
        assert 0 < guessed == there.metric("bloomery_guessed_tokens_total")
        assert there.metric("bloomery_accepted_tokens_total") == told["accepted_prediction_tokens"]
        last = events(there, "/v1/chat/completions", **body, stream_options={"include_usage": True})[-1]
        assert last["usage"]["completion_tokens_details"] == told


def test_a_bad_bias_is_refused_before_anything_is_streamed(narrow: House):
    status, said, _ = narrow.post(TEXT, prompt="x", logit_bias={"9999": 1}, stream=True)
    assert status == 400
    assert "names a token that there is not" in said["error"]["message"]
    assert LogitBias(biases={1: 1.0}).ready(TOKENIZER)


@pytest.mark.parametrize("search", [{}, {"num_beams": 2}])
def test_a_text_that_fails_on_its_way_is_told_and_takes_no_other_with_it(narrow: House, monkeypatch, search):
    def fails(rule, scores, texts):
        raise DataError("this rule has failed")

    monkeypatch.setattr(NoRepeatNGram, "shape", fails)
    body = {"max_tokens": 60, "logit_bias": {str(TOKENIZER.end): -100}}
    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(narrow.post, TEXT, prompt="x", seed=1, **body)
        for _ in range(5):
            status, said, _ = narrow.post(TEXT, prompt="x", no_repeat_ngram_size=2, **search)
            assert (status, said["error"]["message"]) == (400, "this rule has failed")
        assert "this rule has failed" in str(narrow.post(TEXT, prompt="x", no_repeat_ngram_size=2, stream=True, **search)[1])
        assert other.result()[1]["usage"]["completion_tokens"] == 60
    worker = narrow.served.worker
    wait_until(lambda: worker._taken == len(worker._tickets) == worker.engine.live == 0)
