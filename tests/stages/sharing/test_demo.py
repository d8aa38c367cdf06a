"""The demo page: what was written as it was written, and nothing in it that could run but its own script."""

from __future__ import annotations

import base64
import hashlib
import re
from html import unescape

import pytest
import torch

from bloomery.generate import Decoding, Writer
from bloomery.nn import SequenceLayout
from bloomery.stages.sharing.demo import Sample, demo_page, samples_of
from bloomery.text.chat import ChatTemplate
from tests.web.house import MODEL, TOKENIZER

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[31m"


def test_pieces_are_the_answer_with_its_probabilities():
    (sample,) = samples_of(MODEL, TOKENIZER, ChatTemplate(), ["hello"], longest=9)
    prompt = ChatTemplate().render([{"role": "user", "content": "hello"}], TOKENIZER, add_generation_prompt=True).ids
    written = Writer(MODEL, TOKENIZER, Decoding(max_new_tokens=9)).write([prompt])[0]
    assert "".join(text for text, _ in sample.pieces) == written.text
    ids = torch.tensor([prompt + written.tokens])
    with torch.no_grad():
        logprobs = MODEL(ids, SequenceLayout.rows(*ids.shape)).log_softmax(-1)[0]
    whole = sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(written.tokens))
    assert sum(torch.tensor(p).log() for _, p in sample.pieces) == pytest.approx(whole, abs=1e-4)


def test_a_prompt_without_room_for_an_answer_is_passed_over():
    assert samples_of(MODEL, TOKENIZER, ChatTemplate(), ["a" * 200]) == []


def test_only_its_own_script_and_style_may_run():
    page = demo_page("small", [("3", "layers")], [Sample("hello", (("hi", 0.5),))], "bloomery serve x")
    policy = unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1])
    for tag, directive in (("script", "script-src"), ("style", "style-src-elem")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "http://" not in page
    assert "https://" not in page


def test_texts_and_names_are_inert():
    page = demo_page(HOSTILE, [(HOSTILE, HOSTILE)], [Sample(HOSTILE, ((HOSTILE, 0.5),))], HOSTILE)
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "\u202e" not in page.split("<main>")[1].split("data-model")[0]
    assert "\x1b" not in page.split('class="talk"')[1].split("data-model")[0]
