"""A server that takes weights: what it writes with them, what becomes of texts under way, and what it refuses."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
import torch
from safetensors.torch import save

from bloomery.core.errors import ConfigError
from bloomery.generate import Decoding, Random, Writer
from bloomery.nn import SequenceLayout
from bloomery.stages.writing import Renewal
from bloomery.web.server import Limits
from tests.web.house import MODEL, TOKENIZER, House, house, wait_until

TEXT, RENEWAL = "/v1/completions", Renewal(MODEL.config, "cpu")
PROMPT = [TOKENIZER.begin, *TOKENIZER.encode("once upon a time ")]
OTHER = MODEL.config.build(12).eval()


def weights(model=OTHER) -> bytes:
    return save({name: parameter.detach().contiguous() for name, parameter in model.named_parameters()})


def send(there: House, data: bytes, version: str = "0123456789abcdef"):
    return there.call("PUT", f"/v1/weights/{version}", data)


def text(there: House, seed: int = 5, **body):
    asked = {"prompt": PROMPT, "max_tokens": 12, "seed": seed, "return_token_ids": True} | body
    return there.post(TEXT, **asked)[1]["choices"][0]


def by(model, seed: int = 5) -> list[int]:
    written = Writer(model, TOKENIZER, Decoding(by=Random(), max_new_tokens=12)).write([PROMPT], [seed])[0]
    return written.tokens + ([TOKENIZER.end] if written.ended == "end" else [])


def test_texts_are_written_with_the_weights_that_were_sent_last():
    with house(renewal=RENEWAL) as there:
        assert there.call("GET", "/v1/weights")[1] == {"object": "weights", "version": ""}
        assert text(there)["token_ids"] == by(MODEL)
        assert send(there, weights())[:2] == (200, {"object": "weights", "version": "0123456789abcdef"})
        assert text(there)["token_ids"] == by(OTHER) != by(MODEL)  # nothing that was read with the old ones is used
        assert there.call("GET", "/v1/weights")[1]["version"] == "0123456789abcdef"
        vector = there.post("/v1/embeddings", input=PROMPT)[1]["data"][0]["embedding"]
        send(there, weights(MODEL), "fedcba9876543210")
        assert text(there)["token_ids"] == by(MODEL)
        assert there.post("/v1/embeddings", input=PROMPT)[1]["data"][0]["embedding"] != vector


def test_texts_under_way_come_to_their_end_and_those_that_come_meanwhile_wait():
    with house(Limits(rows=4, queued=100), renewal=RENEWAL) as there, ThreadPoolExecutor(40) as beside:
        worker, on, waited_for = there.served.worker, threading.Event(), threading.Event()
        step, take = worker.engine.step, worker.take

        async def told(*given):
            taking = asyncio.ensure_future(take(*given))
            await asyncio.sleep(0)  # by then the thread of the model has been told
            waited_for.set()
            await taking

        worker.engine.step, worker.take = lambda: (on.wait(20), step())[-1], told
        first = [beside.submit(text, there, seed) for seed in range(6)]
        wait_until(lambda: worker._taken == 6)
        taking = beside.submit(send, there, weights())
        assert waited_for.wait(20)
        second = [beside.submit(text, there, seed) for seed in range(6)]
        wait_until(lambda: worker._taken == 12)
        on.set()
        assert [one.result()["token_ids"] for one in first] == [by(MODEL, seed) for seed in range(6)]
        assert [one.result()["token_ids"] for one in second] == [by(OTHER, seed) for seed in range(6)]
        assert taking.result()[0] == 200


def test_who_leaves_while_weights_come_is_forgotten():
    with house(renewal=RENEWAL) as there:
        worker = there.served.worker
        worker._next = worker.engine, "pending00", lambda: None  # as if texts under way were waited for
        worker._step = lambda: None
        worker._change = lambda *_: None
        with ThreadPoolExecutor(1) as beside, pytest.raises(TimeoutError):
            connection = HTTPConnection("127.0.0.1", there.port, timeout=0.3)
            connection.request("POST", TEXT, '{"model": "small", "prompt": "x"}', {"Content-Type": "application/json"})
            beside.submit(wait_until, lambda: len(worker._held) == 1).result()
            connection.getresponse()
        connection.close()
        wait_until(lambda: not worker._held and worker._taken == 0)
        del worker._change, worker._step


@pytest.mark.parametrize(("data", "version", "status", "said"), [
    (b"no tensors", "0123456789abcdef", 400, "is not a readable safetensors file"),
    (weights()[:-100], "0123456789abcdef", 400, "is not a readable safetensors file"),
    (weights(MODEL.config.replace(n_layers=1).build(0)), "0123456789abcdef", 400, "lacks the tensor"),
    (weights(MODEL.config.replace(d_ff=64).build(0)), "0123456789abcdef", 400, "send those of a model like it"),
    (b"0" * (20 << 20), "0123456789abcdef", 413, "are more than the"),
    (weights(), "..%2F..%2Fetc", 404, "there is nothing"),
    (weights(), "short", 400, "take their SHA-256"),
], ids=["garbage", "torn", "fewer layers", "another shape", "too much", "a path", "a short name"])  # fmt: skip
def test_weights_that_are_none_change_nothing(data, version, status, said):
    with house(renewal=RENEWAL) as there:
        found = send(there, data, version)
        assert found[0] == status
        assert said in found[1]["error"]["message"]
        assert "/tmp" not in found[1]["error"]["message"]
        assert text(there)["token_ids"] == by(MODEL)


def test_weights_are_taken_only_by_who_says_so_and_from_who_may(idle: House):
    assert send(idle, weights())[0] == idle.call("GET", "/v1/weights")[0] == 404
    with house(renewal=RENEWAL, keys=("a-key-of-16-letters",)) as there:
        assert send(there, weights())[0] == there.call("GET", "/v1/weights")[0] == 401
        assert there.call("PUT", "/v1/weights/0123456789", weights(), {"Authorization": "Bearer a-key-of-16-letters"})[0] == 200
        assert there.call("PUT", "/v1/weights/0123456789", weights(), {"Origin": "https://example.org"})[0] == 403
    with pytest.raises(ConfigError, match="leave it out"):
        Renewal(MODEL.config, "cpu", "compiled")


@pytest.mark.parametrize("weights_kept", ["plain", "packed", "int8"])
def test_new_weights_are_kept_as_the_first_ones_were(weights_kept, tmp_path):
    (tmp_path / "other.safetensors").write_bytes(weights())
    model = Renewal(MODEL.config, "cpu", weights_kept, "float32").model(tmp_path / "other.safetensors")
    kinds = {type(module).__name__ for module in model.modules()}
    assert ("KeptLinear" in kinds) == (weights_kept != "plain")
    tokens, layout = torch.tensor([PROMPT]), SequenceLayout.rows(1, len(PROMPT))
    with torch.no_grad():
        assert torch.allclose(model(tokens, layout), OTHER(tokens, layout), atol=0.5 if weights_kept == "int8" else 1e-4)


def test_log_probabilities_of_what_is_drawn_are_those_of_the_sampler(idle: House):
    sampler = Random(temperature=0.6, top_k=7, top_p=0.9)
    asked = {"temperature": 0.6, "top_k": 7, "top_p": 0.9, "logprobs": 3}
    told, raw = (text(idle, logprobs_mode=mode, **asked) for mode in ("processed_logprobs", "raw_logprobs"))
    assert told["token_ids"] == raw["token_ids"]
    ids = [*told["prompt_token_ids"], *told["token_ids"]]
    assert told["prompt_token_ids"] == PROMPT
    with torch.no_grad():
        logits = MODEL(torch.tensor([ids]), SequenceLayout.rows(1, len(ids)))[0, len(PROMPT) - 1 : -1]
    for mode, logprobs in ((told, sampler.probabilities(logits).log()), (raw, logits.log_softmax(-1))):
        expected = logprobs.gather(1, torch.tensor(told["token_ids"])[:, None])[:, 0]
        assert mode["logprobs"]["token_logprobs"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert told["logprobs"]["token_logprobs"] != pytest.approx(raw["logprobs"]["token_logprobs"], abs=1e-3)
    only = text(idle, logprobs_mode="processed_logprobs", top_k=1, logprobs=5)  # the others are impossible, and not told
    assert all(list(likeliest.values()) == [0.0] for likeliest in only["logprobs"]["top_logprobs"])


@pytest.mark.parametrize(("body", "said"), [
    ({"logprobs_mode": "processed_logprobs", "temperature": 0}, "here none are"),
    ({"logprobs_mode": "processed_logprobs", "presence_penalty": 1}, "leave out penalties"),
    ({"logprobs_mode": "processed_logprobs", "num_beams": 2}, "here none are"),
    ({"logprobs_mode": "processed_logprobs", "echo": True}, "that were not drawn"),
    ({"logprobs_mode": "none"}, "logprobs_mode"),
    ({"return_token_ids": True, "stream": True}, "leave out stream"),
])  # fmt: skip
def test_what_cannot_be_told_is_refused(idle: House, body, said):
    status, found, _ = idle.post(TEXT, prompt=PROMPT, logprobs=0, **body)
    assert (status, said in found["error"]["message"]) == (400, True)
