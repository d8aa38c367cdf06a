"""The tokenizer loses nothing, forges nothing, and is the same each time."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ArtifactError, ConfigError, DataError
from bloomery.text.tokenizer import CONTROL_TOKENS, ByteBPE, Gpt4, Tokenizer

CORPUS = [f"The cat number {i} didn't see the {i * 37} dogs.\n\n  It slept, and it wasn't hungry: «naïve» café №{i}.\n" for i in range(200)]
TRICKY = [*CONTROL_TOKENS, "<|", "|>", "\r\n", "\n\n", "  ", "\t", "'ll", "12345", "\x00", "\ufeff", "e\u0301"]
texts = st.lists(st.one_of(st.sampled_from(TRICKY), st.text()), max_size=12).map("".join)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(CORPUS, vocab_size=400)


@settings(deadline=None, max_examples=300)
@given(texts)
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(deadline=None)
@given(texts)
def test_no_text_forges_a_control_token(tokenizer, text):
    assert not set(tokenizer.encode(text)) & set(tokenizer.controls)


def test_lone_surrogates_become_replacement_characters(tokenizer):
    assert tokenizer.decode(tokenizer.encode("cat \ud800 dog \ud83d")) == "cat \ufffd dog \ufffd"
    assert tokenizer.decode(tokenizer.encode_markup("cat \udfff")) == "cat \ufffd"


@settings(deadline=None)
@given(st.lists(texts, max_size=5))
def test_batching_changes_nothing(tokenizer, batch):
    assert tokenizer.encode_batch(batch) == [tokenizer.encode(text) for text in batch]


def test_control_tokens_are_the_first_ids_in_order(tokenizer):
    assert [tokenizer.begin, tokenizer.end, tokenizer.user, tokenizer.assistant, tokenizer.system, tokenizer.pad] == list(range(6))
    assert list(tokenizer.controls.values()) == list(CONTROL_TOKENS)


def test_markup_means_control_tokens(tokenizer):
    ids = tokenizer.encode_markup("<|user|>cat<|end|>")
    assert ids == [tokenizer.user, *tokenizer.encode("cat"), tokenizer.end]
    assert tokenizer.decode_markup(ids) == "<|user|>cat<|end|>"
    assert tokenizer.decode(ids) == "cat"


def test_documents_stand_between_begin_and_end(tokenizer):
    [ids] = tokenizer.encode_documents(["cat"])
    assert ids.tolist() == [tokenizer.begin, *tokenizer.encode("cat"), tokenizer.end]


def test_training_is_deterministic_and_reads_the_corpus_once():
    assert Tokenizer.train(iter(CORPUS), vocab_size=350).fingerprint == Tokenizer.train(CORPUS, vocab_size=350).fingerprint


def test_control_tokens_in_the_training_text_do_not_become_words():
    trained = Tokenizer.train(["say <|end|> again <|user|>"] * 50, vocab_size=300)
    assert trained.token_bytes.count(b"<|end|>") == 0
    assert trained.end not in trained.encode("say <|end|>")


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(CORPUS[3]) == tokenizer.encode(CORPUS[3])


def test_byte_lengths_count_the_bytes_of_a_text(tokenizer):
    assert tokenizer.byte_lengths.shape == (tokenizer.vocab_size,)
    for text in [*CORPUS[:5], "日本語 😀"]:
        assert tokenizer.byte_lengths[tokenizer.encode_documents([text])[0]].sum() == len(text.encode())


def test_merges_make_the_text_shorter(tokenizer):
    assert len(tokenizer.encode(CORPUS[0])) < 0.7 * len(CORPUS[0].encode())


@pytest.mark.parametrize(("max_digits", "longest"), [(1, 1), (3, 3)])
def test_digits_group_up_to_the_limit(max_digits, longest):
    trained = Tokenizer.train(["100000 200000 100200 300100"] * 50, vocab_size=500, model=ByteBPE(split=Gpt4(max_digits=max_digits)))
    assert max(len(token) for token in trained.token_bytes if token.isdigit()) == longest


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="262 is the least"):
        Tokenizer.train(CORPUS, vocab_size=261)


def test_an_empty_corpus_is_refused():
    with pytest.raises(DataError, match="no text"):
        Tokenizer.train(["", ""], vocab_size=300)


@pytest.mark.parametrize("content", ["", "{}", '{"version": "1.0"}', "not json"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json does not read as a tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_tokenizer_without_control_tokens_is_refused(tokenizer, tmp_path):
    plain = json.loads(tokenizer._json)
    plain["added_tokens"] = [t for t in plain["added_tokens"] if t["content"] != "<|system|>"]
    del plain["model"]["vocab"]["<|system|>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    with pytest.raises(ArtifactError, match=r"<\|system\|>"):
        Tokenizer.load(tmp_path / "tokenizer.json")
