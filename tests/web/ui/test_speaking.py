"""Models that are talked to: loaded when they are asked, let go of when not, and what is seen within them."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
import torch

from bloomery.nn import SequenceLayout
from bloomery.text.chat import ChatTemplate
from bloomery.web.admission import Admission
from bloomery.web.ui import speaking
from bloomery.web.ui.speaking import Speakers
from tests.web.house import MODEL, TOKENIZER
from tests.web.ui.filled import TALK
from tests.web.ui.places import ask

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
    assert talker == {"reference": "Train/talker-3", "parameters": 30_000, "talks": True, "loaded": True, "keyed": False}


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


def test_models_are_let_go_of_when_others_are_asked_and_when_nobody_asks(looked_at, corpora, tmp_path, monkeypatch):
    async def talk() -> None:
        speakers = Speakers(looked_at, Admission())
        one = await speakers.of("Train/talker-3")
        assert (await speakers.of("Train/talker-3")) is one
        monkeypatch.setattr(speaking, "KEPT", 0)
        other = await speakers.of("Train/talker-3")
        assert other is one
        assert speakers.loaded == []
        one.served.worker.join(10)
        assert not one.served.worker.is_alive()
        monkeypatch.undo()
        again = await speakers.of("Train/talker-3")
        assert again is not one
        speakers.tidy()
        assert speakers.loaded == ["Train/talker-3"]
        again.asked_s = time.monotonic() - speaking.IDLE_S
        speakers.tidy()
        assert speakers.loaded == []

    asyncio.run(talk())
