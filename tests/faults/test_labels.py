"""Two people judge at once while the server is killed: what it had said it has is there, once."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
import uuid
from http.client import HTTPConnection, HTTPException

import pytest
import uvicorn
from tests.mesh.ranks import CONTEXT

from bloomery.stages.labels import Item, Judgements
from bloomery.store import Store
from bloomery.web.ui.app import Pages


def serve(root: str, port: int) -> None:
    uvicorn.run(Pages(Store(root)).app(), host="127.0.0.1", port=port, log_level="error", lifespan="off")


def ask(port: int, path: str, body=None):
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    data = None if body is None else json.dumps(body).encode()
    connection.request("GET" if body is None else "POST", path, data, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, content


@pytest.mark.parametrize(("n_items", "kills"), [(30, 1), pytest.param(250, 3, marks=pytest.mark.slow)], ids=["60 judgements", "500 judgements"])
def test_what_two_people_judge_is_kept_by_a_server_that_is_killed(n_items, kills, tmp_path):
    items = [Item(({"role": "user", "content": f"question {n}"},), ("a", "b", "c")) for n in range(n_items)]
    judgements = Judgements(tmp_path / "labels" / "big.sqlite")
    judgements.add_items(items)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    acknowledged: dict[tuple[str, str], list[int]] = {}
    started = [CONTEXT.Process(target=serve, args=(str(tmp_path), port), daemon=True)]
    started[0].start()

    def person(labeler: str) -> None:
        """Judges until there is nothing left; what was not answered for is sent again with its token, as the page does."""
        draw = random.Random(labeler)
        waiting = None
        while True:
            try:
                if waiting is None:
                    _, told = ask(port, f"/api/label?set=big&labeler={labeler}")
                    if told["item"] is None:
                        return
                    ranks = draw.sample([1, 2, 3], 3)
                    waiting = {"set": "big", "labeler": labeler, "item": told["item"]["id"], "token": uuid.uuid4().hex}
                    waiting |= {"kind": "ranks", "ranks": ranks}
                status, _ = ask(port, "/api/judge", waiting)
                assert status == 200
                acknowledged[labeler, waiting["item"]] = waiting["ranks"]
                waiting = None
            except (OSError, HTTPException):
                time.sleep(0.05)

    people = [threading.Thread(target=person, args=(name,), daemon=True) for name in ("ann", "ben")]
    for one in people:
        one.start()
    for kill in range(kills):
        goal = (kill + 1) * 2 * n_items // (kills + 1)
        until = time.monotonic() + 100
        while len(acknowledged) < goal and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(started[-1].pid, signal.SIGKILL)
        started[-1].join()
        known = dict(acknowledged)
        there = {(one.labeler, one.item) for one in judgements.standing()}
        assert set(known) <= there, "what was acknowledged before the kill is gone"
        started.append(CONTEXT.Process(target=serve, args=(str(tmp_path), port), daemon=True))
        started[-1].start()
    for one in people:
        one.join(120)
        assert not one.is_alive()
    started[-1].kill()
    standing = judgements.standing()
    assert len(standing) == judgements.count() == len(acknowledged) == 2 * n_items
    order = {item.id: item for item in items}
    for one in standing:
        shown = acknowledged[one.labeler, one.item]
        assert [one.ranks[place] for place in order[one.item].order_for(one.labeler)] == shown
