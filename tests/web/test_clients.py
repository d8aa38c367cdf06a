"""Clients that others have written, and many of them at once."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bloomery.generate import Beam, Decoding, DoLa, Drafter, Ngram, Random, Writer
from bloomery.text.chat import ChatTemplate
from bloomery.web.server import Limits
from tests.web.house import MODEL, TOKENIZER, House, house, wait_until

openai = pytest.importorskip("openai")


@pytest.fixture(scope="module")
def client(there: House):
    with openai.OpenAI(base_url=there.url, api_key="none", max_retries=0, timeout=60) as asks:
        yield asks


def test_the_openai_client_chats_streams_completes_and_embeds(client):
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    whole = client.chat.completions.create(model="small", messages=messages, seed=4, max_tokens=12, logprobs=True, top_logprobs=1)
    pieces = client.chat.completions.create(
        model="small", messages=messages, seed=4, max_tokens=12, stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    told = list(pieces)
    assert "".join(piece.choices[0].delta.content or "" for piece in told if piece.choices) == whole.choices[0].message.content
    assert told[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert whole.choices[0].logprobs.content[0].logprob < 0
    text = client.completions.create(model="small", prompt="hello", echo=True, logprobs=2, max_tokens=3)
    assert text.choices[0].text.startswith("hello")
    assert len(client.embeddings.create(model="small", input=["a", "b"]).data[1].embedding) == MODEL.config.d_model
    assert [model.id for model in client.models.list()] == ["small"]


def test_the_openai_client_understands_what_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.completions.create(model="small", prompt="x", temperature=-1)
    with pytest.raises(openai.NotFoundError, match="there is no model 'large'"):
        client.completions.create(model="large", prompt="x")


def crowd(clients: int, seconds: float, pool: int | None = None, draft: Drafter | None = None) -> list[float]:
    """Clients that ask, listen, and leave when they like; each answer that is heard to its end is what it would be alone. Seconds to each
    first piece."""
    messages = [[{"role": "user", "content": word * n}] for word in ("tell ", "a b ", "who? ") for n in (1, 3, 6)]
    drawn = Decoding(by=Random(temperature=0.9), max_new_tokens=40)
    ways: tuple[tuple[dict[str, Any], Decoding], ...] = (
        ({"temperature": 0.9}, drawn), ({"extra_body": {"num_beams": 3}}, drawn.replace(by=Beam(n_beams=3))),
        ({"temperature": 0.9, "extra_body": {"dola_layers": "low"}}, drawn.replace(contrast=DoLa(layers="low"))),
        ({"temperature": 0.9}, drawn),
    )  # fmt: skip
    alone = {}
    cases = [(i, seed) for i in range(len(messages)) for seed in range(len(ways))]
    prompts = [ChatTemplate().render(talk, TOKENIZER, add_generation_prompt=True).ids for talk in messages]
    for seed, (_, decoding) in enumerate(ways):
        for i, written in enumerate(Writer(MODEL, TOKENIZER, decoding).write(prompts, [seed] * len(prompts))):
            alone[i, seed] = written.text
    waited, wrong, heard, lock, until = [], [], [0, 0], threading.Lock(), time.monotonic() + seconds

    limits = Limits(rows=16, queued=2 * clients, pool=pool)
    with house(limits, draft=draft) as there, openai.OpenAI(base_url=there.url, api_key="none", max_retries=0) as asks:

        def one(number: int) -> None:
            chance = random.Random(number)
            while time.monotonic() < until:
                case = chance.choice(cases)
                leaves = chance.random() < 0.3
                began, text, left = time.monotonic(), "", False
                with asks.chat.completions.create(
                    model="small", messages=messages[case[0]], seed=case[1], max_tokens=40, stream=True, **ways[case[1]][0],
                ) as pieces:  # fmt: skip
                    for piece in pieces:
                        if not text:
                            with lock:
                                waited.append(time.monotonic() - began)
                        text += piece.choices[0].delta.content or ""
                        if leaves and chance.random() < 0.2:
                            left = True
                            break
                with lock:
                    heard[left] += 1
                    if not left and text != alone[case]:
                        wrong.append((case, text))

        with ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(one, number) for number in range(clients)]:
                done.result()
        worker = there.served.worker
        wait_until(lambda: (worker.engine.live, worker.engine.waiting, worker._taken, len(worker._tickets)) == (0, 0, 0, 0))
        assert there.metric("bloomery_cancelled_total") > 0
    assert wrong == []
    assert min(heard) > 0
    print(f"{clients} clients for {seconds:g} s: {heard[0]} answers heard to their end, {heard[1]} left")
    return sorted(waited)


ROOMS = pytest.mark.parametrize(("pool", "draft"), [(None, None), (320, Ngram())], ids=["rows", "pages and guesses"])


@ROOMS
def test_clients_that_come_and_go_disturb_nobody(pool, draft):
    assert crowd(clients=12, seconds=1.0, pool=pool, draft=draft)


@pytest.mark.slow
@pytest.mark.timeout(400)
@ROOMS
def test_64_clients_that_come_and_go_for_two_minutes_disturb_nobody(pool, draft):
    waited = crowd(clients=64, seconds=120.0, pool=pool, draft=draft)
    print(f"seconds to the first piece: median {waited[len(waited) // 2]:.3f}, p99 {waited[len(waited) * 99 // 100]:.3f}")
