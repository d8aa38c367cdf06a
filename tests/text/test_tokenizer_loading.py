"""Other people's tokenizers give the ids that their own libraries give."""

import base64
import io
import json
import random
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
import sentencepiece
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.text.tokenizer import ByteBPE, Gpt2, Gpt4, Tokenizer, WordPiece
from bloomery.text.tokenizer.loading import load_foreign, tokenizer_files
from bloomery.text.tokenizer.sentencepiece import merges_of
from bloomery.text.tokenizer.sentencepiece import sentencepiece as read_model

CORPUS = [f"The cat number {i} didn't see the {i * 37} dogs.\n\n  It slept, and it wasn't hungry: «naïve» café №{i}." for i in range(200)]
parts = st.sampled_from(["cat", " the", "  ", "▁", "<s>", "\n", "didn't", "é", "１２", "ﬁ"])
some_text = st.lists(st.one_of(st.text(max_size=6), parts)).map("".join)


CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
"""The pattern of tiktoken's `openai_public.py` (MIT)."""
LLAMA = {"vocab_size": 400, "byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
"""The options that Llama's and Mistral's models were trained with."""


@cache
def trained() -> Tokenizer:
    return Tokenizer.train(CORPUS, vocab_size=500)


@cache
def ranks() -> dict[bytes, int]:
    tokens = [token for token in trained().token_bytes if token]
    return {token: rank for rank, token in enumerate(sorted(tokens, key=len))}


@cache
def model_file(kind: str, vocab_size: int = 80, **options) -> bytes:
    """A small model, trained by SentencePiece itself."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3), model_writer=written, vocab_size=vocab_size, model_type=kind,
        minloglevel=2, num_threads=1, hard_vocab_limit=False, **options,
    )  # fmt: skip
    return written.getvalue()


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    lines = b"".join(base64.b64encode(token) + f" {rank}\n".encode() for token, rank in ranks().items())
    return load_foreign(write(tmp_path_factory.mktemp("t"), "own.tiktoken", lines), Gpt4(max_digits=2))


@settings(deadline=None, max_examples=150)
@given(some_text)
def test_a_tiktoken_list_gives_tiktokens_ids(listed, text):
    peer = tiktoken.Encoding("own", pat_str=Gpt4(max_digits=2).pattern, mergeable_ranks=ranks(), special_tokens={})
    assert listed.tokenizer.encode(text) == peer.encode_ordinary(text)
    assert listed.tokenizer.decode(listed.tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bpe", LLAMA), ("bpe", {"vocab_size": 200, "add_dummy_prefix": False}), ("unigram", {}),
        ("unigram", {"vocab_size": 340, "byte_fallback": True, "add_dummy_prefix": False}),
    ],
)  # fmt: skip
def test_a_sentencepiece_model_gives_sentencepieces_ids(tmp_path, kind, options):
    data = model_file(kind, **options)
    peer, loaded = sentencepiece.SentencePieceProcessor(model_proto=data), load_foreign(write(tmp_path, "own.model", data))
    assert loaded.format == "SentencePiece"

    @settings(deadline=None, max_examples=150)
    @given(some_text.filter(lambda text: kind == "bpe" or "<s>" not in text))
    def alike(text):
        assert loaded.tokenizer.encode(text) == peer.encode(text)

    alike()
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("The cat slept.")) == "The cat slept."


def test_gpt2s_two_files_are_read_together(tmp_path):
    model = json.loads(Tokenizer.train(CORPUS, vocab_size=500, model=ByteBPE(split=Gpt2()))._json)["model"]
    write(tmp_path, "gpt2_vocab.json", json.dumps(model["vocab"] | {"<|endoftext|>": 500}))
    write(tmp_path, "gpt2_merges.txt", "#version: 0.2\n" + "\n".join(" ".join(merge) for merge in model["merges"]))
    loaded = load_foreign(tmp_path)
    original = Tokenizer.train(CORPUS, vocab_size=500, model=ByteBPE(split=Gpt2()))
    assert loaded.tokenizer.encode(CORPUS[7]) == original.encode(CORPUS[7])
    assert loaded.spelled == {role: f"<|{role}|>" for role in ("begin", "end", "user", "assistant", "system", "pad")}
    with pytest.raises(DataError, match="is JSON, but no tokenizer.json; of GPT-2's two files give the folder"):
        load_foreign(tmp_path / "gpt2_vocab.json")


def test_what_cuts_pads_or_varies_ids_is_switched_off(tmp_path):
    plain = json.loads(trained()._json)
    plain["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    plain["padding"] = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 5, "pad_type_id": 0, "pad_token": "<|pad|>"}
    plain["model"]["dropout"] = 0.9
    loaded = load_foreign(write(tmp_path, "tokenizer.json", json.dumps(plain)))
    assert loaded.added == ()
    assert loaded.tokenizer.encode(CORPUS[0]) == trained().encode(CORPUS[0])


def test_a_tokenizers_own_tokens_take_the_usual_roles_and_the_rest_are_added(tmp_path):
    data = model_file("bpe", **LLAMA)
    write(tmp_path, "own.model", data)
    size = sentencepiece.SentencePieceProcessor(model_proto=data).vocab_size()
    loaded = load_foreign(tmp_path / "own.model")
    assert loaded.spelled == {"begin": "<s>", "end": "</s>"}
    assert loaded.added == ("<|user|>", "<|assistant|>", "<|system|>", "<|pad|>")
    tokenizer = loaded.tokenizer
    assert (tokenizer.begin, tokenizer.end, tokenizer.user, tokenizer.vocab_size) == (1, 2, size, size + 4)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (again.roles, again.fingerprint, again.loses) == (tokenizer.roles, tokenizer.fingerprint, tokenizer.loses)
    assert again.decode_markup(again.encode_markup("<s><|user|>")) == "<s><|user|>"
    assert again.spell("<|begin|><|user|>{{ x }}<|end|>") == "<s><|user|>{{ x }}</s>"
    mapped = load_foreign(tmp_path / "own.model", roles={"pad": "<unk>", "tool": "</s>"})
    assert (mapped.tokenizer.pad, mapped.tokenizer.roles["tool"], mapped.added[-1]) == (0, 2, "<|system|>")


def test_a_role_for_a_token_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    path = write(tmp_path, "tokenizer.json", trained()._json)
    with pytest.raises(ConfigError, match=r"roles\['begin'\]='<\|begn\|>' is no token of .*; did you mean '<\|begin\|>'\?"):
        load_foreign(path, roles={"begin": "<|begn|>"})


def test_no_id_is_given_twice(tmp_path):
    plain = json.loads(trained()._json)
    plain["added_tokens"] = [token for token in plain["added_tokens"] if token["content"] != "<|pad|>"]
    del plain["model"]["vocab"]["<|pad|>"]
    path = write(tmp_path, "tokenizer.json", json.dumps(plain))
    with pytest.raises(DataError, match=r"ids without tokens, so that <\|pad\|> would share one"):
        load_foreign(path)
    assert load_foreign(path, roles={"pad": "<|end|>"}).tokenizer.pad == 1


def test_a_split_is_refused_where_the_file_says_it(tmp_path):
    with pytest.raises(ConfigError, match="says itself how it cuts a text; leave it out"):
        load_foreign(write(tmp_path, "tokenizer.json", trained()._json), split=Gpt2())


def test_a_folder_must_hold_one_tokenizer(tmp_path):
    with pytest.raises(DataError, match="holds no tokenizer"):
        tokenizer_files(tmp_path)
    for name in ("config.json", "generation_config.json", "model.safetensors.index.json"):
        write(tmp_path, name, "{}")
    with pytest.raises(DataError, match="holds no tokenizer"):
        tokenizer_files(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        tokenizer_files(tmp_path / "x")
    for name in ("a.model", "b.model"):
        write(tmp_path, name, "")
    with pytest.raises(DataError, match=r"holds 2 tokenizers \(a\.model, b\.model\)"):
        tokenizer_files(tmp_path)
    write(tmp_path, "tokenizer.json", "{}")
    assert [path.name for path in tokenizer_files(tmp_path)] == ["tokenizer.json"]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.sampled_from(["bpe", "json", "list", "noise"]))
def test_damage_is_a_data_error_or_does_no_harm(seed, kind):
    draw = random.Random(seed)
    whole = {"bpe": model_file("unigram"), "json": trained()._json.encode(), "noise": draw.randbytes(99)}
    data = bytearray(whole.get(kind) or b"".join(base64.b64encode(t) + b" %d\n" % r for t, r in ranks().items()))
    for _ in range(draw.randint(1, 4)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    data = data[: draw.randrange(1, len(data))]
    with tempfile.TemporaryDirectory() as folder, suppress(DataError):
        load_foreign(write(Path(folder), "damaged", bytes(data)))


def test_every_way_to_make_a_token_is_a_merge():
    assert merges_of({"a": 0, "b": 1, "ab": 2, "aba": 3, "ba": 4}) == [("a", "b"), ("a", "ba"), ("ab", "a"), ("b", "a")]


def test_a_sentencepiece_model_of_words_is_refused():
    data = model_file("word")
    with pytest.raises(DataError, match="of a kind that is not read"):
        read_model(data)


def test_wordpiece_streams_words_with_their_blanks(tmp_path):
    tokenizer = Tokenizer.train(CORPUS, vocab_size=400, model=WordPiece())
    ids = tokenizer.encode("The cat slept")
    assert b"".join(tokenizer.decode_bytes([i]) for i in ids) == b" The cat slept"
    assert tokenizer.decode(ids) == "The cat slept"


@pytest.mark.real
@pytest.mark.parametrize("name", ["gpt2", "cl100k", "mistral", "unigram", "bert"])
def test_real_tokenizers_give_their_librarys_ids_in_75_languages(real_data, name):
    folder = real_data / "F_tokenizers"
    lines = [line for file in sorted((real_data / "A_text/lingua_testdata_75lang/sentences").glob("*.txt")) for line in _lines(file)[::12]]
    lines += ["  two  blanks ", "tab\tnew\n\nline", "▁", " ▁ a ▁ ", ""] + ([] if name == "unigram" else ["<s>[CLS]<|endoftext|>"])
    if name == "gpt2":
        loaded = load_foreign(folder / "gpt2_vocab_merges")
        assert load_foreign(folder / "gpt2_tokenizer_json").tokenizer.encode_batch(lines) == loaded.tokenizer.encode_batch(lines)
        table = {token: i for i, token in enumerate(loaded.tokenizer.token_bytes[:50256])}
        expected = tiktoken.Encoding("gpt2", pat_str=Gpt2().pattern, mergeable_ranks=table, special_tokens={}).encode_ordinary_batch(lines)
    elif name == "cl100k":
        path = folder / "cl100k_tiktoken/cl100k_base.tiktoken"
        loaded = load_foreign(path)
        table = {base64.b64decode(token): int(rank) for token, rank in map(str.split, path.read_text().splitlines())}
        expected = tiktoken.Encoding("cl100k", pat_str=CL100K, mergeable_ranks=table, special_tokens={}).encode_ordinary_batch(lines)
    elif name == "bert":
        transformers = pytest.importorskip("transformers")
        loaded = load_foreign(folder / "bert_base_cased")
        peer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "bert_base_cased/bert-base-cased.json"))
        expected = peer(lines, add_special_tokens=False).input_ids
        expected[-1] = loaded.tokenizer.encode(lines[-1])  # there, control tokens in a text are obeyed
    else:
        path = folder / {"mistral": "mistral_sentencepiece/tokenizer.model.v1", "unigram": "sentencepiece_test_models/test_model.model"}[name]
        loaded = load_foreign(path)
        expected = sentencepiece.SentencePieceProcessor(model_file=str(path)).encode(lines)
    assert loaded.tokenizer.encode_batch(lines) == expected
    if not loaded.tokenizer.loses:
        assert [loaded.tokenizer.decode(ids) for ids in expected] == lines


def _lines(file: Path) -> list[str]:
    return file.read_text("utf-8").split("\n")
