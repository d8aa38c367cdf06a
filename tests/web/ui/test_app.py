"""What the pages are told, over real connections; and who is told nothing."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from bloomery.data import NextToken
from bloomery.mesh import Layout
from bloomery.models.presets import preset
from bloomery.optim import AdamW
from bloomery.planning.machines import machine
from bloomery.stages.anatomy import Planned
from bloomery.stages.init import Scratch
from bloomery.stages.planner import planner_of, usual
from bloomery.stages.prepare import Prepare
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer
from bloomery.stages.train import Share, Train
from bloomery.store import Store, read_json, write_json
from bloomery.text.readers import Files
from tests.web.ui.places import HOSTILE, ask, leased, line, made, served, small_store


def test_a_recipe_is_a_strip_of_what_is_there_and_what_is_not(address, looked_at):
    status, said, _ = ask(address, "/api/home")
    assert status == 200
    (recipe,) = said["recipes"]
    assert [(stage["label"], stage["status"]) for stage in recipe["stages"]] == [
        ("TrainTokenizer/main", "done"), ("Train/base", "done"), ("Train/chat", "stopped"), ("Evaluate/exam", "missing"),
    ]  # fmt: skip
    assert (recipe["stages"][2]["step"], recipe["stages"][2]["of"]) == (2, 100)
    assert recipe["stages"][3]["inputs"] == ["Train/chat"]
    assert recipe["next"] == f"bloomery run recipes/small.py --store {looked_at.root}"
    with leased(looked_at, "Train/chat-2"):
        (recipe,) = ask(address, "/api/home")[1]["recipes"]
        assert (recipe["stages"][2]["status"], recipe["next"]) == ("running", "")


def test_what_failed_says_why_and_the_command_is_the_one_that_was_given(tmp_path):
    store = Store(tmp_path)
    small_store(store)
    write_json(store.root / "small.lock.json", read_json(store.root / "small.lock.json") | {"command": "bloomery run own.py --heat 3"})
    store.fail("Train/chat-2", "the loss is nan" + HOSTILE)
    with served(store) as there:
        (recipe,) = ask(there, "/api/home")[1]["recipes"]
        assert (recipe["stages"][2]["status"], recipe["stages"][2]["why"]) == ("failed", "the loss is nan" + HOSTILE)
        assert recipe["next"] == f"bloomery run own.py --heat 3 --store {tmp_path}"
        assert ask(there, "/api/run?ref=Train/chat-2")[1]["alerts"][0] == ["bad", "It failed at step 2: the loss is nan" + HOSTILE]
        store.workspace("Train/chat-2")  # it is tried again
        assert ask(there, "/api/run?ref=Train/chat-2")[1]["status"] == "stopped"


def test_looking_takes_no_lease(looked_at, address):
    ask(address, "/api/home")
    waited = []
    with looked_at.lease("Train/chat-2", on_wait=lambda: waited.append(1)):
        pass
    assert waited == []


def test_what_belongs_to_no_last_run_is_there_too(tmp_path):
    store = Store(tmp_path)
    small_store(store)
    made(store, "Train/old-9", summary={"steps": 5})
    with served(store) as there:
        assert [one["reference"] for one in ask(there, "/api/home")[1]["others"]] == ["Train/old-9"]


def test_an_artifact_tells_where_it_came_from(address):
    status, said, _ = ask(address, "/api/artifact?ref=Train/base-1")
    assert status == 200
    assert said["lineage"]["inputs"] == [{"field": "tokenizer", "reference": "TrainTokenizer/main-0", "there": True, "inputs": []}]
    assert said["summary"]["parameters"] == 1234
    assert {file["name"] for file in said["files"]} == {"metrics.jsonl", "samples.jsonl"}


def test_a_run_tells_its_figures_and_then_what_is_new(tmp_path):
    store = Store(tmp_path)
    small_store(store)
    with served(store) as there:
        said = ask(there, "/api/run?ref=Train/chat-2")[1]
        assert (said["status"], said["curves"]["loss"]["step"], said["last"]["step"]) == ("stopped", [0, 1, 2], 2)
        assert said["fields"]["steps"] == 100
        with open(store.path("Train/chat-2.partial") / "metrics.jsonl", "a") as file:
            file.write(line(3))
        said = ask(there, "/api/run?ref=Train/chat-2&after=2")[1]
        assert (said["curves"]["loss"]["step"], said["last"]["step"]) == ([3], 3)
        done = ask(there, "/api/run?ref=Train/base-1")[1]
        assert [event["step"] for event in done["events"]] == [7]
        assert [one["step"] for one in done["samples"]] == [0, 40]


def test_texts_are_told_in_tokens(address):
    (known,) = ask(address, "/api/tokenizers")[1]
    body = {"tokenizers": [known["reference"]], "text": "the fox — é"}
    said = ask(address, "/api/tokens", body)[1][known["reference"]]
    whole = "".join(piece["text"] for piece in said["pieces"])
    assert whole == "the fox \\xe2\\x80\\x94 \\xc3\\xa9"
    assert (said["tokens"], said["characters"], said["bytes"]) == (len(said["pieces"]), 11, 14)
    talk = [{"role": "user", "content": "the fox"}, {"role": "assistant", "content": "quick"}]
    said = ask(address, "/api/tokens", {"tokenizers": [known["reference"]], "messages": talk})[1][known["reference"]]
    learnt = "".join(piece["text"] for piece in said["pieces"] if "unlearnt" not in piece)
    assert learnt == "quick<|end|>"
    assert [piece["text"] for piece in said["pieces"] if piece.get("control")] == [
        "<|begin|>", "<|user|>", "<|end|>", "<|assistant|>", "<|end|>",
    ]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status"), [
    ("/api/run?ref=Train/none-0", None, 404), ("/api/run", None, 404), ("/api/run?ref=../../etc", None, 404),
    ("/api/artifact?ref=Train/..", None, 404), ("/api/artifact?ref=Train/chat-2", None, 404), ("/api/artifact?ref=%00/x", None, 404),
    ("/api/step?ref=Train/base-1&step=x", None, 400), ("/api/step?ref=TrainTokenizer/main-0&step=1", None, 400),
    ("/static/../app.py", None, 404), ("/static/nothing.js", None, 404),
    ("/api/tokens", {"tokenizers": ["../x"], "text": "a"}, 404), ("/api/tokens", {"text": "a"}, 400), ("/api/tokens", [], 400),
    ("/api/tokens", {"tokenizers": ["TrainTokenizer/main-0"], "text": "a" * 30_000}, 400),
    ("/api/tokens", {"tokenizers": ["TrainTokenizer/main-0"], "messages": [{"role": "x", "content": 3}]}, 400),
    ("/api/tokens", {"tokenizers": [], "text": "a" * (2 << 20)}, 413), ("/api/label?set=none&labeler=ann", None, 404),
    ("/api/label?set=../x&labeler=ann", None, 404), ("/api/label?set=first", None, 400), ("/api/judge", {"set": "first"}, 400),
    ("/api/judge", {"set": "first", "labeler": "zoe", "token": "a-token-of-it", "kind": "undo"}, 400),
    ("/api/judge", {"set": "first", "labeler": "zoe", "token": "a-token-of-it", "kind": "ranks", "item": "x", "ranks": [1, 2]}, 400),
    ("/api/judge", {"set": "first", "labeler": "zoe", "token": "a-token-of-it", "kind": "drop", "item": "x"}, 400),
    ("/api/compare", {"set": "../x", "messages": [], "answers": ["a", "b"]}, 400), ("/api/compare", {"set": "new", "answers": ["a", "b"]}, 400),
    ("/api/compare", {"set": "../x", "messages": [{"role": "user", "content": "?"}], "answers": ["a", "b"]}, 404),
    ("/api/compare", {"set": "new", "messages": [{"role": "user", "content": "?"}], "answers": ["a"]}, 400),
    ("/api/stop", {"ref": "Train/base-1"}, 409), ("/api/stop", {"ref": "../x"}, 404), ("/api/stop", [], 404),
    ("/api/corpus?ref=../x", None, 404), ("/api/corpus?ref=Train/base-1", None, 400), ("/api/evaluation?ref=Train/base-1", None, 404),
    ("/api/answers?ref=none", None, 404), ("/api/question?ref=Assess/main-6&id=r1", None, 404),
    ("/api/look", {"model": "../x", "text": "a"}, 404), ("/api/look", {"model": "Train/base-1", "text": "a"}, 404), ("/api/look", [], 400),
    ("/api/look", {"model": "Train/talker-3"}, 400), ("/api/weigh", {"model": "Train/talker-3", "answers": ["a"]}, 400),
    ("/api/weigh", {"model": "Train/talker-3", "messages": [], "answers": []}, 400),
], ids=str)  # fmt: skip
def test_what_cannot_be_told_is_refused_in_a_sentence(address, path, body, status):
    found, said, _ = ask(address, path, body)
    assert found == status
    assert len(said["error"]) > 10


def test_pages_of_other_sites_and_other_names_get_nothing(address):
    assert ask(address, "/api/home", Origin="https://evil.example")[0] == 403
    assert ask(address, "/api/home", Host="evil.example")[0] == 403
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}  # as for an image, which has no Origin
    assert ask(address, "/api/plan", **elsewhere)[0] == 403
    assert ask(address, "/", **(elsewhere | {"Sec-Fetch-Mode": "navigate"}))[0] == 200  # a link may lead here
    assert ask(address, "/", Host="evil.example")[0] == 403
    assert ask(address, "/api/tokens", {"tokenizers": [], "text": ""}, **{"Content-Type": "text/plain"})[0] == 415


@pytest.mark.parametrize("path", ["/api/judge", "/api/compare", "/api/stop", "/api/look", "/model/Train/talker-3/v1/chat/completions"])
def test_what_writes_or_costs_is_refused_to_other_sites(address, path):
    messages = [{"role": "user", "content": "a"}]
    body = {"model": "Train/talker-3", "ref": "Train/chat-2", "set": "new", "messages": messages, "answers": ["a", "b"]}
    assert ask(address, path, body, Origin="https://evil.example")[0] == 403
    assert ask(address, path, body, Origin="null")[0] == 403
    assert ask(address, path, body, Host="evil.example")[0] == 403
    assert ask(address, path, body, **{"Content-Type": "text/plain"})[0] == 415


def test_a_training_is_asked_to_end_by_a_file_beside_its_work(tmp_path):
    store = Store(tmp_path)
    small_store(store)
    with served(store) as there, leased(store, "Train/chat-2"):
        assert ask(there, "/api/run?ref=Train/chat-2")[1]["stopping"] is False
        write_json(store.path("Train/chat-2.partial") / "plan.json", {"tensors": {"planned": 10, "measured": 20, "ratio": 2.0}})
        said = ask(there, "/api/run?ref=Train/chat-2")[1]
        assert (said["plan"]["tensors"]["measured"], said["alerts"]) == (20, [["warn", "It takes 200% of the memory that was planned."]])
        assert ask(there, "/api/stop", {"ref": "Train/chat-2"})[0] == 200
        assert store.path("Train/chat-2.stop").exists()
        assert ask(there, "/api/run?ref=Train/chat-2")[1]["stopping"] is True


def test_answers_are_put_into_a_set_once(tmp_path):
    store = Store(tmp_path)
    body = {"set": "new", "messages": [{"role": "user", "content": HOSTILE}], "answers": ["a", HOSTILE]}
    with served(store) as there:
        assert ask(there, "/api/compare", body)[1] == {"new": True, "items": 1}
        assert ask(there, "/api/compare", body)[1] == {"new": False, "items": 1}
        item = ask(there, "/api/label?set=new&labeler=ann")[1]["item"]
        assert item["prompt"] == body["messages"]
        said = {"set": "new", "labeler": "ann", "item": item["id"]}
        assert ask(there, "/api/judge", said | {"token": "one-of-them", "kind": "ranks", "ranks": [1, 2]})[1]["done"] == 1
        assert ask(there, "/api/judge", said | {"token": "another-one", "kind": "undo"})[1]["done"] == 0


def test_nothing_from_elsewhere_may_run_and_no_other_page_may_hold_it(address):
    response = ask(address, "/")[2]
    policy = response.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert response.getheader("X-Content-Type-Options") == "nosniff"


def test_a_key_in_the_address_becomes_a_cookie(looked_at):
    with served(looked_at, keys=("a-long-enough-key",)) as there:
        assert ask(there, "/")[0] == ask(there, "/api/home")[0] == ask(there, "/?key=wrong")[0] == 401
        chat = "/model/Train/talker-3/v1/chat/completions"
        assert ask(there, chat, {})[0] == 401
        status, _, response = ask(there, "/?key=a-long-enough-key")
        cookie = response.getheader("Set-Cookie")
        assert (status, response.getheader("Location")) == (303, "/")
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert ask(there, "/api/home", Cookie=cookie.partition(";")[0])[0] == 200
        assert ask(there, chat, {}, Cookie=cookie.partition(";")[0])[0] in (400, 404)  # what is asked is wrong, and not who asks
        assert ask(there, "/api/home", Authorization="Bearer a-long-enough-key")[0] == 200


def test_hostile_names_are_told_as_they_are(address):
    """The browser puts them on the page as text; see test_browser.py."""
    assert ask(address, "/api/artifact?ref=Train/base-1")[1]["fields"]["name"] == HOSTILE


def test_who_judges_sees_neither_an_order_nor_what_is_known(address):
    said = ask(address, "/api/label?set=first&labeler=cat")[1]
    assert set(said["item"]) == {"id", "prompt", "answers"}
    assert (said["done"], said["of"]) == (0, 2)
    assert ask(address, "/api/judge", {"set": "first"}, Origin="https://evil.example")[0] == 403


def test_rates_go_to_the_answers_that_were_shown_and_come_out_as_rows(tmp_path):
    store = Store(tmp_path)
    small_store(store)
    with served(store) as there:
        for number in range(2):
            item = ask(there, "/api/label?set=first&labeler=cat")[1]["item"]
            rates = [1 + 2 * (answer == "b") + 3 * (answer == "very") for answer in item["answers"]]
            said = {"set": "first", "labeler": "cat", "item": item["id"], "token": f"the-token-{number}", "kind": "ranks", "rates": rates}
            assert ask(there, "/api/judge", said | {"rates": [9] * len(rates)})[0] == 400
            assert ask(there, "/api/judge", said | {"rates": rates[1:]})[0] == 400
            assert ask(there, "/api/judge", said)[1]["done"] == number + 1
        status, text, response = ask(there, "/labels/first.jsonl")
        assert (status, response.getheader("Content-Disposition")) == (200, "attachment")
        two, three = map(json.loads, text.splitlines())
        assert (two["completions"], two["rates"], two["ranks"]) == (["very", HOSTILE], [4.0, 1.0], [1, 2])
        assert (three["completions"], three["rates"], three["ranks"]) == (["a", "b", "c"], [1.0, 3.0, 1.0], [2, 1, 2])
        assert ask(there, "/labels/none.jsonl")[0] == ask(there, "/labels/..%2Fx.jsonl")[0] == 404
        assert ask(there, "/labels/first.jsonl", Origin="https://evil.example")[0] == 403


@pytest.mark.slow
def test_a_plan_is_that_of_the_command_line(address):
    query = "model=6m&machine=h100&tokens=1e9&batch_tokens=524288&ranks=8&way=shard&price=2"
    status, said, _ = ask(address, f"/api/plan?{query}")
    assert status == 200
    planned = Planned(config=preset("6m"), time=1024, optimizer=AdamW(), task=NextToken(), precision="bf16", guarded=True)
    planner = planner_of(planned, machine("h100"), 512)
    there = planner.outlook(usual(planner, Layout.parse("shard=8")))
    assert said["places"][0]["total"] == there.memory.total
    assert said["tokens_per_s"] == there.speed.tokens_per_s
    assert said["cost"] == pytest.approx(1e9 / there.speed.tokens_per_s / 3600 * 8 * 2)
    assert said["command"].startswith("bloomery size 6m --tokens 1e+09 --batch-tokens 524288 --layout shard=8 --machine h100")
    corpus = Prepare(source=Files(path="*"))
    tokenizer = TrainTokenizer(corpora=(corpus,))
    names = {"Train": Train, "Scratch": Scratch, "Share": Share, "AdamW": AdamW, "preset": preset}
    train = eval(said["recipe"], names | {"tokenizer": tokenizer, "read": Tokenize(corpus=corpus, tokenizer=tokenizer)})  # as it is copied
    assert (train.init.model, train.batch_tokens, train.tokens, train.max_seq_len) == (preset("6m"), 524_288, 10**9, 1024)


@pytest.mark.parametrize(
    "change", ["model=none", "machine=none", "tokens=x", "tokens=-1", "ranks=1e9", "way=odd", "price=nan", "recompute=odd"],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused_in_a_sentence(address, change):
    query = dict(pair.split("=") for pair in ["model=1m", "machine=h100", "tokens=1e9", "batch_tokens=65536", "ranks=1", "price=0"])
    status, said, _ = ask(address, "/api/plan?" + urlencode(query | dict([change.split("=")])))
    assert status == 400
    assert len(said["error"]) > 10
