"""Texts of a policy by servers beside the training: that they are the policy's, whatever becomes of the servers; what is not learnt from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bloomery.core.errors import ConfigError, DataError, ResourceError
from bloomery.data import Each, Packed
from bloomery.generate import Access, Random
from bloomery.mesh import ALONE
from bloomery.models import AdaptedConfig, load_hub
from bloomery.models.checkpoint import check_names, save_model
from bloomery.models.heads import ValueConfig
from bloomery.models.tasks import TaskConfig
from bloomery.nn.adapters import LoRA, PromptTuning
from bloomery.optim import Batches
from bloomery.stages.writing import Renewal
from bloomery.train.engines import BloomeryEngine, Reach, Text, VLLMEngine, Wanted
from bloomery.train.engines.remote import text_of
from bloomery.train.engines.weights import writing_weights
from bloomery.train.healing import Ledger
from bloomery.train.rollouts import Rollout, Rollouts
from bloomery.web.bodies import CompletionBody
from bloomery.web.server import Served
from tests.data.corpora import make_shards
from tests.web.house import MODEL, TOKENIZER, House, house

CONFIG, TIME, ROWS, END = MODEL.config, 32, 8, TOKENIZER.end
ENGINE = BloomeryEngine(model="small")


@pytest.fixture
def server():
    with house(renewal=Renewal(CONFIG, "cpu")) as there:
        yield there


class World:
    """A policy, prompts, and the servers that write for it."""

    def __init__(self, folder, *servers: House, engine=ENGINE, policy=CONFIG, **changes) -> None:
        self.shards = make_shards(folder / "shards", [5, 9, 8, 7, 10, 6, 8], vocab_size=64)
        self.rollout = Rollout(**{"prompt_tokens": 3, "max_new_tokens": 12, "samples": 2, "engine": engine} | changes)
        self.policy, self.folder, self.said = policy, folder, list[str]()
        self.reach = Reach(folder / "engine", tuple(one.url for one in servers), Access(wait_s=0.01), self.said.append)
        self.state = SimpleNamespace(model=policy.build(0), step=0, known=Ledger(), holding=SimpleNamespace(mesh=ALONE))

    def source(self) -> Rollouts:
        return Rollouts(
            Packed(self.shards, Each(), time=TIME, seed=1), self.rollout, self.state, Batches(ROWS), ends=END, pad=TOKENIZER.pad,
            vocab_size=TOKENIZER.vocab_size, seed=3, folder=self.folder / "rollouts", reach=self.reach,
        )  # fmt: skip

    def step(self) -> None:
        self.state.step += 1
        self.state.model = self.policy.build(self.state.step)


def of_policy(world: World, batch, sampler=Random()) -> torch.Tensor:  # noqa: B008
    """log π of what was drawn, as the policy itself reads it."""
    with torch.no_grad():
        logits = world.state.model.eval()(batch.tokens, batch.layout)[..., : TOKENIZER.vocab_size]
    return sampler.probabilities(logits.flatten(0, 1)).log().view(logits.shape).gather(-1, batch.targets[..., None])[..., 0]


@pytest.mark.parametrize("sampler", [Random(), Random(temperature=0.7, top_k=20, min_p=0.01)], ids=["plain", "cut"])
def test_each_round_is_written_by_the_policy_as_it_is_by_then(tmp_path, server, sampler):
    world = World(tmp_path, server, sampler=sampler)
    source = world.source()
    for step in range(3):
        batch = source.batch(step * ROWS, ROWS)
        drawn = batch.loss_weight > 0
        assert drawn.any(1).all()
        assert torch.allclose(batch.samples.logprobs[drawn], of_policy(world, batch, sampler)[drawn], atol=1e-4)
        assert batch.samples.ages.tolist() == [0] * ROWS
        for row in range(ROWS):
            places = drawn[row].nonzero().flatten()
            ended = int(batch.targets[row, places[-1]]) == END
            assert ended or len(places) == 12
            assert END not in batch.targets[row, places[:-1]]
        assert 0 < source.figures(step * ROWS, ROWS)["apart"] < 1e-4
        world.step()
    texts = [tuple(row) for row in batch.tokens.tolist()]
    assert len(set(texts)) > ROWS // 2  # samples of a prompt differ


def test_the_same_weights_are_sent_once_and_no_round_is_asked_for_twice(tmp_path, server):
    world = World(tmp_path, server)
    first = world.source().batch(0, ROWS)
    written = server.metric("bloomery_generated_tokens_total")
    again = world.source().batch(0, ROWS)  # as a run that goes on finds it: other bits might come of asking once more
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.samples.logprobs, again.samples.logprobs)
    assert world.source().figures(0, ROWS) == world.source().figures(0, ROWS)
    assert server.metric("bloomery_generated_tokens_total") == written
    puts = lambda: server.metric('bloomery_requests_total{path="/v1/weights/{version}",status="200"}')  # noqa: E731
    assert puts() == 1
    other = World(tmp_path / "other", server)
    assert torch.equal(other.source().batch(0, ROWS).tokens, first.tokens)  # a run of the same seed, on an idle server
    assert puts() == 1


def test_servers_share_the_texts_and_all_get_the_weights(tmp_path, server):
    with house(renewal=Renewal(CONFIG, "cpu")) as other:
        both = World(tmp_path / "both", server, other).source().batch(0, ROWS)
        assert min(one.metric("bloomery_generated_tokens_total") for one in (server, other)) > 0
        one = World(tmp_path / "one", server).source().batch(0, ROWS)
    assert torch.equal(both.tokens, one.tokens)


@pytest.mark.parametrize("policy", [
    AdaptedConfig(base=CONFIG, adapter=LoRA(rank=2)),
    TaskConfig(base=CONFIG, heads=(ValueConfig(),), language_head=True),
    AdaptedConfig(base=TaskConfig(base=CONFIG, heads=(ValueConfig(),), language_head=True), adapter=LoRA(rank=2)),
], ids=["adapter", "value", "both"])  # fmt: skip
def test_a_server_of_the_base_writes_for_policies_with_adapters_and_heads(tmp_path, server, policy):
    world = World(tmp_path, server, policy=policy)
    for name, parameter in world.state.model.named_parameters():
        if "adapters" in name or "lora" in name.lower():
            torch.nn.init.normal_(parameter, std=0.2)
    batch = world.source().batch(0, ROWS)
    drawn = batch.loss_weight > 0
    assert torch.allclose(batch.samples.logprobs[drawn], of_policy(world, batch)[drawn], atol=1e-4)


def test_weights_that_a_policy_writes_by_are_those_of_a_model_like_it():
    for policy in (CONFIG, AdaptedConfig(base=CONFIG, adapter=PromptTuning(n_tokens=3))):
        model = policy.build(5)
        config, weights = writing_weights(model)
        assert config == policy
        check_names(*({name: tuple(one.shape) for name, one in some.items()} for some in (dict(model.named_parameters()), weights)), "it")


def test_a_server_that_was_started_anew_gets_the_weights_and_is_asked_again(tmp_path, server, monkeypatch):
    world = World(tmp_path, server)
    source = world.source()
    source.batch(0, ROWS)
    world.step()
    asked, lost = type(source.writer)._asked, []

    def loses(self, wanted):
        if not lost:
            lost.append(server.call("PUT", "/v1/weights/anotherone", _file(CONFIG.build(99), tmp_path)))
        return asked(self, wanted)

    monkeypatch.setattr(type(source.writer), "_asked", loses)
    batch = source.batch(ROWS, ROWS)
    drawn = batch.loss_weight > 0
    assert torch.allclose(batch.samples.logprobs[drawn], of_policy(world, batch)[drawn], atol=1e-4)
    assert "sent once more" in " ".join(world.said)
    world.step()
    monkeypatch.setattr(type(source.writer), "_asked", lambda self, wanted: [lost.clear(), loses(self, wanted)][1])
    with pytest.raises(ResourceError, match="twice within a round"):
        source.batch(2 * ROWS, ROWS)


def _file(model, folder) -> bytes:
    save_model(model, folder / "another.safetensors")
    return (folder / "another.safetensors").read_bytes()


def test_nothing_is_learnt_from_a_server_with_other_weights(tmp_path, server, monkeypatch):
    monkeypatch.setattr(BloomeryEngine, "renew", lambda *_: None)
    monkeypatch.setattr(BloomeryEngine, "version", lambda *_: None)
    world = World(tmp_path, server)
    with pytest.raises(DataError, match="it has other weights"):
        world.source().batch(0, ROWS)
    assert not list(tmp_path.glob("rollouts/*"))
    loose = World(tmp_path / "loose", server, engine=ENGINE.replace(apart=1e3)).source()
    loose.batch(0, ROWS)
    assert loose.figures(0, ROWS)["apart"] > 0.1


def test_what_is_missing_to_have_servers_write_is_said(tmp_path, server):
    with pytest.raises(ConfigError, match="give --engine-url"):
        World(tmp_path).source()
    with house() as deaf, pytest.raises(ConfigError, match="--takes-weights"):
        World(tmp_path / "deaf", deaf).source().batch(0, ROWS)
    with pytest.raises(ConfigError, match="no model 'policy' here"):
        World(tmp_path / "name", server, engine=BloomeryEngine()).source().batch(0, ROWS)
    with pytest.raises(ConfigError, match="send those of a model like it"):
        World(tmp_path / "like", server, policy=CONFIG.replace(d_ff=64)).source().batch(0, ROWS)
    with house(renewal=Renewal(CONFIG, "cpu"), keys=("a-key-of-16-letters",)) as locked, pytest.raises(ConfigError, match="--key-file"):
        World(tmp_path / "locked", locked).source().batch(0, ROWS)
    world = World(tmp_path / "away", server)
    world.reach = Reach(tmp_path / "engine", ("http://127.0.0.1:9/v1",), Access(wait_s=0.0, attempts=2))
    with pytest.raises(ResourceError, match="does not answer"):
        world.source().batch(0, ROWS)
    with pytest.raises(ConfigError, match="at temperature=0.5"):
        Rollout(max_new_tokens=4, engine=VLLMEngine(logprobs="raw"), sampler=Random(temperature=0.5))
    with pytest.raises(ConfigError, match="typical_p"):
        Rollout(max_new_tokens=4, engine=VLLMEngine(), sampler=Random(typical_p=0.5))


WANTED = Wanted(prompts=[[3]], numbers=[0], most=4, room=9, sampler=Random(), seed=0, ends=1, vocab_size=10)


def answer(tokens, logprobs) -> dict:
    return {"choices": [{"token_ids": tokens, "logprobs": {"token_logprobs": logprobs}}]}


@pytest.mark.parametrize(("tokens", "logprobs"), [
    (None, [-1.0]), (["3"], [-1.0]), ([3, 1], [-1.0]), ([3, 1], [-1.0, None]), ([3, 1], [-1.0, 0.5]), ([3, 1], [-1.0, float("nan")]),
    ([], []), ([3] * 5, [-1.0] * 5), ([3, 10, 3, 1], [-1.0] * 4), ([3, -1, 3, 1], [-1.0] * 4), ([1, 3, 3, 3], [-1.0] * 4), ([3, 3], [-1.0] * 2),
], ids=str)  # fmt: skip
def test_answers_that_cannot_be_learnt_from_are_refused(tokens, logprobs):
    with pytest.raises(DataError, match="gives"):
        text_of(answer(tokens, logprobs), 4, WANTED)


def test_answers_are_texts_that_end_or_are_as_long_as_may_be():
    assert text_of(answer([3, 1], [-1.0, -2]), 4, WANTED) == Text([3, 1], [-1.0, -2.0])
    assert text_of(answer([3, 4, 5, 6], [-1.0, 1e-7, -1, 0]), 4, WANTED) == Text([3, 4, 5, 6], [-1.0, 0.0, -1.0, 0.0])


class LikeVLLM:
    """Before a server of ours: what vLLM's has beside the API for developers, and that it takes the ids that end texts."""

    def __init__(self, served: Served) -> None:
        self.served, self.version, self.calls, self.busy, self.old = served, "default", list[str](), False, False
        self.app = Starlette(routes=[
            Route("/collective_rpc", self.rpc, methods=["POST"]), Route("/reset_prefix_cache", self.reset, methods=["POST"]),
            Route("/update_weight_version", self.update, methods=["POST"]), Route("/weight_info", self.info),
            Route("/v1/completions", self.write, methods=["POST"]),
        ])  # fmt: skip

    async def rpc(self, request: Request) -> Response:
        body = await request.json()
        config, model = load_hub(Path(body["kwargs"]["weights_path"]))
        self.calls.append(f"{body['method']} of {config.n_layers} layers")
        await self.served.worker.take(self.served._engine(model.eval()), "")
        return JSONResponse({"results": [None]})

    async def reset(self, request: Request) -> Response:
        self.calls.append("reset")
        return JSONResponse({"success": not self.busy})

    async def update(self, request: Request) -> Response:
        self.version = (await request.json())["new_version"]
        return JSONResponse({"success": True}, 404 if self.old else 200)

    async def info(self, request: Request) -> Response:
        return JSONResponse({"weight_version": self.version}, 404 if self.old else 200)

    async def write(self, request: Request) -> Response:
        body = await request.json()
        assert body.pop("stop_token_ids") == [END]
        data = json.dumps(body | {"logprobs_mode": "processed_logprobs"}).encode()

        async def receive() -> Any:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False} if bodies else await request.receive()

        bodies = [data]
        length = [(b"content-length", str(len(data)).encode()), (b"host", b"localhost")]
        return await self.served._write(Request({**request.scope, "headers": length}, receive), kind=CompletionBody)


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_a_server_like_vllm_writes_for_a_policy(tmp_path, old):
    before = list[LikeVLLM]()

    def app(served: Served) -> Starlette:
        before.append(LikeVLLM(served))
        return before[0].app

    with house(app=app) as there:
        before[0].old = old
        world = World(tmp_path, there, engine=VLLMEngine(model="small"))
        source = world.source()
        for step in range(2):
            batch = source.batch(step * ROWS, ROWS)
            drawn = batch.loss_weight > 0
            assert torch.allclose(batch.samples.logprobs[drawn], of_policy(world, batch)[drawn], atol=1e-4)
            world.step()
        assert before[0].calls == ["reload_weights of 2 layers", "reset"] * 2
        before[0].busy = True
        with pytest.raises(ResourceError, match="keeps what it has read"):
            source.batch(2 * ROWS, ROWS)
    with house() as there, pytest.raises(ConfigError, match="VLLM_SERVER_DEV_MODE=1"):
        World(tmp_path / "no", there, engine=VLLMEngine(model="small")).source().batch(0, ROWS)
