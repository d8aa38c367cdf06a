"""White space and punctuation: what changes, what stays, and conversations with their contents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError
from bloomery.text.documents import Document, conversation, to_batch
from bloomery.text.filters import Punctuation, WhiteSpace


def made(filter, *texts):
    return filter(to_batch([Document(f"d{i}", text, "s") for i, text in enumerate(texts)])).batch["text"].to_pylist()


@pytest.mark.parametrize(("before", "after"), [
    ("a  \nb\t\n", "a\nb\n"), ("a\n\n\n\n\nb", "a\n\n\nb"), ("\n\na\n\n", "a\n"), ("  a = 1\n", "  a = 1\n"), ("a\u00a0b\u3000c", "a b c"),
    ("a\u2028b\x0cc", "a\nb\nc"), (" \n \n", ""), ("", ""), ("a", "a"), ("a \n \n \n \nb", "a\n\n\nb"), ("x\u200by", "x\u200by"),
])  # fmt: skip
def test_white_space(before, after):
    assert made(WhiteSpace(), before) == [after]


def test_spaces_inside_lines_are_squeezed_on_demand():
    assert made(WhiteSpace(max_spaces=1, max_blank_lines=0), "a   b\n\nc") == ["a b\nc"]


@given(text=st.text(alphabet=" \t\n\u00a0\u2029ab", max_size=30), most=st.integers(0, 3), spaces=st.sampled_from([None, 1, 2]))
def test_white_space_is_as_it_says(text, most, spaces):
    (out,) = made(WhiteSpace(max_blank_lines=most, max_spaces=spaces), text)
    assert "".join(out.split()) == "".join(text.split())
    assert "\n" * (most + 2) not in out
    assert not any(line.endswith((" ", "\t")) for line in out.split("\n"))
    assert not out.startswith("\n")
    assert not out.endswith("\n\n")
    assert spaces is None or " " * (spaces + 1) not in out


def test_the_text_of_a_conversation_follows_from_its_contents():
    talk = [{"role": "user", "content": "a \n"}, {"role": "assistant", "content": "\nb"}]
    batch = WhiteSpace()(to_batch([Document("d", "x ", "s"), conversation("e", "s", talk)])).batch
    assert [m["content"] for m in batch["messages"][1].as_py()] == ["a\n", "b"]
    assert batch["text"].to_pylist() == ["x", "a\n\n\nb"]


def test_punctuation_by_field():
    text = "“Don’t” – he said — wait…"
    assert made(Punctuation(), text) == ['"Don\'t" – he said — wait…']
    assert made(Punctuation(dashes="hyphen", ellipses="dots", quotes="keep"), text) == ["“Don’t” - he said -- wait..."]


def test_filters_that_would_do_nothing_are_refused():
    with pytest.raises(ConfigError, match="so nothing would change"):
        Punctuation(quotes="keep")
    with pytest.raises(ConfigError, match="max_blank_lines=-1"):
        WhiteSpace(max_blank_lines=-1)
