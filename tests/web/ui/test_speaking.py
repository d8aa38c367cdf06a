"""Models that are talked to: loaded when they are asked, let go of when not, and what is seen within them."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
import torch

from bloomery.core.units import human_bytes
from bloomery.models import write_model
from bloomery.nn import SequenceLayout
from bloomery.stages.writing import WEIGHTS, takes
from bloomery.store import Store
from bloomery.text.chat import ChatTemplate
from bloomery.web.admission import Admission, RefusedError
from bloomery.web.ui import speaking
from bloomery.web.ui.speaking import Speakers
from tests.web.house import MODEL, TOKENIZER
from tests.web.ui.filled import TALK
from tests.web.ui.places import ask, made, served

SMALL = MODEL.config.replace(n_layers=1, d_model=8, n_heads=1, n_kv_heads=1).build(3).eval()
REPEATS = {str(token): 100 for token in TOKENIZER.encode("ab ")}
CHAT = "/model/Train/talker-3/v1/chat/completions"
BODY = {"model": "Train/talker-3", "messages": TALK[:1], "temperature": 0, "max_tokens": 5}


def test_a_model_answers_as_it_does_behind_a_server_of_its_own(address):
    status, said, _ = ask(address, CHAT, BODY | {"logprobs": True, "top_logprobs": 2})
    assert status == 200
    prompt = ChatTemplate().render(TALK[:1], TOKENIZER, add_generation_prompt=True).ids
    with torch.no_grad():
        tokens = torch.tensor([prompt])
        logprobs = MODEL.unembed(MODEL.features(tokens, SequenceLayout.rows(*tokens.shape)))[0, -1, : TOKENIZER.vocab_size].log_softmax(-1)
    first = said["choices"][0]["logprobs"]["content"][0]
    assert first["logprob"] == pytest.approx(float(logprobs.max()), abs=1e-4)
    (talker,) = ask(address, "/api/models")[1]
    about = {"reference": "Train/talker-3", "parameters": 30_000, "talks": True, "loaded": True, "keyed": False, "guesses": []}
    assert talker == about


def test_only_the_api_of_a_model_is_told_and_only_of_models(address):
    body = BODY | {"prompt": "two", "messages": None}
    assert ask(address, CHAT.replace("chat/", ""), body)[1]["object"] == "text_completion"
    assert ask(address, CHAT)[0] == 405  # an image of another site's page is asked for so, and is not to load a model
    assert ask(address, "/model/Train/talker-3/metrics", {})[0] == 404
    assert ask(address, CHAT.replace("talker-3", "base-1"), BODY)[0] == 404
    assert ask(address, "/model/Train/../v1/chat/completions", BODY)[0] == 404
    assert ask(address, CHAT, BODY | {"model": "other"})[0] == 404


def test_how_likely_an_answer_is_adds_up_to_what_the_model_says_of_it(address):
    (tokens,) = ask(address, "/api/weigh", {"model": "Train/talker-3", "messages": TALK[:1], "answers": ["two"]})[1]["answers"]
    ids = ChatTemplate().render(TALK[:2], TOKENIZER).ids
    with torch.no_grad():
        row = torch.tensor([ids])
        logprobs = MODEL.unembed(MODEL.features(row, SequenceLayout.rows(*row.shape)))[0].log_softmax(-1)
    naive = [float(logprobs[place - 1, ids[place]]) for place in range(len(ids) - len(tokens), len(ids))]
    assert "".join(token["text"] for token in tokens) == "two<|end|>"
    assert [math.log(token["p"]) for token in tokens] == pytest.approx(naive, abs=1e-2)


def test_a_look_inside_ends_in_what_the_model_says_and_attention_adds_up(address):
    said = ask(address, "/api/look", {"model": "Train/talker-3", "text": "two and one", "layer": 0})[1]
    ids = [TOKENIZER.begin, *TOKENIZER.encode("two and one")]
    with torch.no_grad():
        row = torch.tensor([ids])
        best = MODEL.unembed(MODEL.features(row, SequenceLayout.rows(*row.shape)))[0, -1].softmax(-1).max(-1)
    assert [row["layer"] for row in said["said"]] == ["embedding", "0", "1"]
    assert said["said"][-1]["words"][-1][0][1] == pytest.approx(float(best.values), abs=1e-3)
    assert (said["layer"], len(said["heads"]), len(said["pieces"])) == (0, 4, len(ids))
    for head in said["heads"]:
        for place, weights in enumerate(head):
            assert sum(weights) == pytest.approx(1, abs=0.05)
            assert not any(weights[place + 1 :])


def talkers(store: Store) -> None:
    """Three models of one tokenizer, the last of which is small."""
    for name, model in (("one-1", MODEL), ("two-2", MODEL), ("small-3", SMALL)):
        folder = store.workspace(f"Train/{name}").path
        write_model(folder / "model", model.config, model)
        TOKENIZER.save(folder / "tokenizer" / "tokenizer.json")
        made(store, f"Train/{name}")


@pytest.fixture
def speakers(tmp_path):
    store = Store(tmp_path)
    talkers(store)
    return Speakers(store, Admission())


def test_models_are_let_go_of_when_others_are_asked_and_when_nobody_asks(speakers):
    async def talk() -> None:
        one = await speakers.of("Train/one-1")
        await speakers.of("Train/two-2")
        assert (await speakers.of("Train/one-1")) is one
        await speakers.of("Train/small-3")
        assert speakers.loaded == ["Train/one-1", "Train/small-3"]  # the one that was asked longest ago is gone
        speakers.tidy()
        assert speakers.loaded == ["Train/one-1", "Train/small-3"]
        one.asked_s = time.monotonic() - speaking.IDLE_S
        speakers.tidy()
        assert speakers.loaded == ["Train/small-3"]
        one.served.worker.join(10)
        assert not one.served.worker.is_alive()
        assert (await speakers.of("Train/one-1")) is not one

    asyncio.run(talk())


def test_a_model_is_packed_as_one_that_is_served(speakers):
    model = asyncio.run(speakers.of("Train/one-1")).served.model
    assert type(model.blocks[0].mixer.out).__name__ == ("KeptLinear" if WEIGHTS["packed"].can(MODEL) else "Linear")


def test_the_older_one_makes_room_and_what_does_not_fit_is_refused_with_the_arithmetic(speakers, monkeypatch):
    one, small = (takes(speakers.store.open(f"Train/{name}"), speaking.LIMITS.places(96)) for name in ("one-1", "small-3"))
    free = [1 << 40]
    monkeypatch.setattr(speaking, "free_bytes", lambda device: free[0] - sum(one.total for _ in speakers.loaded))

    async def talk() -> None:
        free[0] = 2.2 * one.total / speaking.SPARE
        await speakers.of("Train/one-1")
        free[0] = 1.6 * one.total / speaking.SPARE
        await speakers.of("Train/two-2")
        assert speakers.loaded == ["Train/two-2"]
        free[0] = 0.9 * one.total / speaking.SPARE
        with pytest.raises(RefusedError, match="there is no memory for that: Train/one-1: weights ") as refused:
            await speakers.of("Train/one-1")
        for told in (human_bytes(one.total), human_bytes(0.9 * one.total), "bloomery serve Train/one-1 --rows 1"):
            assert told in str(refused.value)
        assert speakers.loaded == []
        await speakers.of("Train/small-3")
        free[0] = (0.5 * small.total + one.total) / speaking.SPARE
        with pytest.raises(RefusedError, match="Train/one-1: weights .*; Train/small-3: weights "):
            await speakers.of("Train/one-1", "Train/small-3")

    asyncio.run(talk())


@pytest.mark.parametrize("draft", ["Ngram", "Train/small-3"])
def test_a_model_is_asked_with_guesses_and_says_how_many_stood(tmp_path, draft):
    store = Store(tmp_path)
    talkers(store)
    with served(store) as there:
        about = {one["reference"]: one["guesses"] for one in ask(there, "/api/models")[1]}
        assert about == {"Train/small-3": [], "Train/one-1": ["Train/small-3"], "Train/two-2": ["Train/small-3"]}
        path, body = "/model/Train/one-1/v1/completions", {"model": "Train/one-1", "prompt": "a b a b a b", "temperature": 0, "max_tokens": 40}
        plain, guessed = (ask(there, path + query, body | {"logit_bias": REPEATS}) for query in ("", f"?draft={draft}"))
        assert guessed[0] == 200, guessed[1]
        assert guessed[1]["choices"] == plain[1]["choices"]
        assert sum(guessed[1]["usage"]["completion_tokens_details"].values()) > 0
        assert "completion_tokens_details" not in plain[1]["usage"]
        assert ask(there, path + "?draft=Train/none-9", body)[0] == 404
        assert ask(there, "/api/look", {"model": "Train/one-1", "text": "a"})[0] == 200
