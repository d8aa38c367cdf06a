"""Other people's tokenizers: `tokenizer.json`, GPT-2's two files, SentencePiece's `.model`, tiktoken's lists; told apart by their contents."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from bloomery.core.errors import ConfigError, DataError, did_you_mean
from bloomery.text.tokenizer.alphabet import BYTE_ALPHABET
from bloomery.text.tokenizer.models import special
from bloomery.text.tokenizer.sentencepiece import merges_of, sentencepiece
from bloomery.text.tokenizer.splits import Gpt4, PatternSplit
from bloomery.text.tokenizer.tokenizer import ROLES, Tokenizer, spelled_role

LARGEST_BYTES = 256 << 20  # of a file; the largest vocabularies in use take some 30 MB
USUAL = {
    "begin": ("<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>", "[CLS]", "<|endoftext|>"),
    "end": ("<|end_of_text|>", "</s>", "<eos>", "[SEP]", "<|endoftext|>"),
    "pad": ("<pad>", "[PAD]", "<|padding|>"),
}
"""How other tokenizers spell the roles."""

IN_FOLDER = ("tokenizer.json", "*tokenizer.json", "tokenizer.model", "*.model", "*.model.*", "*.tiktoken", "*vocab.json", "*.json")
NO_TOKENIZER = re.compile(r"(config|index|map|manifest|added_tokens|vocab)\.json$")  # ends of other files' names in folders of models


class Loaded(NamedTuple):
    """A tokenizer that was read, and what was done to it.

    Attributes:
        tokenizer: ready for use.
        format: what the file was.
        spelled: the roles that tokens of its own have.
        added: the control tokens that it lacked, behind all its own ids.
    """

    tokenizer: Tokenizer
    format: str
    spelled: dict[str, str]
    added: tuple[str, ...]


def tokenizer_files(path: Path) -> list[Path]:
    """The files that a tokenizer is read from: the one at `path`, or of a folder the one or two that hold it.

    Raises:
        DataError: there is none, or more than one tokenizer.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; give a tokenizer's file, or the folder that holds it")
    for pattern in IN_FOLDER:
        found = sorted(file for file in path.glob(pattern) if pattern != "*.json" or not NO_TOKENIZER.search(file.name))
        if len(found) > 1:
            raise DataError(f"{path} holds {len(found)} tokenizers ({', '.join(file.name for file in found[:4])}); give the path of one")
        if found and pattern == "*vocab.json":
            merges = found[0].with_name(found[0].name.replace("vocab.json", "merges.txt"))
            if not merges.exists():
                raise DataError(f"{found[0]} has no {merges.name} beside it; both make a tokenizer")
            return [found[0], merges]
        if found:
            return found
    raise DataError(f"{path} holds no tokenizer; it would be a tokenizer.json, a .model, a .tiktoken, or a vocab.json and a merges.txt")


def load_foreign(path: Path, split: PatternSplit | None = None, roles: Mapping[str, str] | None = None) -> Loaded:
    """Reads a tokenizer, gives its own tokens the roles they usually have, and adds control tokens for the rest.

    Args:
        path: a file, or a folder with a tokenizer in it.
        split: how tiktoken's lists, which don't say it, cut a text; None for `Gpt4()`, as of cl100k. Other files say it themselves.
        roles: which token has which role, where it is not the usual one.

    Raises:
        DataError: the file is not a tokenizer that can be read.
        ConfigError: a token that is given a role is not in the vocabulary, or `split` is given for a file that says it itself.
    """
    files = tokenizer_files(path)
    backend, format = _backend(files, split)
    roles = dict(roles or {})
    vocabulary = backend.get_vocab(with_added_tokens=True)
    spelled = {}
    for role in dict.fromkeys([*ROLES, *roles]):
        usual = (f"<|{role}|>", *USUAL.get(role, ()))
        if role in roles and roles[role] not in vocabulary:
            remedy = did_you_mean(roles[role], vocabulary, "give one")
            raise ConfigError(f"roles[{role!r}]={roles[role]!r} is no token of {path}; {remedy}")
        if token := roles.get(role) or next((token for token in usual if token in vocabulary), None):
            spelled[role] = token
    added = tuple(f"<|{role}|>" for role in ROLES if role not in spelled)
    backend.add_special_tokens(special([*spelled.values(), *added]))
    if any((backend.token_to_id(token) or 0) <= max(vocabulary.values()) for token in added):  # the library counts tokens, not ids
        raise DataError(f"{path} has ids without tokens, so that {added[0]} would share one; give its own tokens roles with roles={{…}}")
    odd = {role: token for role, token in spelled.items() if spelled_role(token) != role}
    return Loaded(Tokenizer(backend, odd), format, spelled, added)


def _backend(files: list[Path], split: PatternSplit | None) -> tuple[Backend, str]:
    data = _read(files[0])
    try:
        if re.match(rb"[A-Za-z0-9+/]+=* \d+\r?\n", data):
            return tiktoken(data, split or Gpt4()), "tiktoken"
        if split is not None:
            raise ConfigError(f"split={split} is given, but {files[0]} says itself how it cuts a text; leave it out")
        if len(files) == 2:
            return gpt2(json.loads(data), _read(files[1]).decode()), "vocabulary and merges"
        if data.lstrip()[:1] == b"{":
            return huggingface(json.loads(data)), "tokenizer.json"
        return sentencepiece(data), "SentencePiece"
    except DataError as error:
        raise DataError(f"{files[0]} {error}; give a tokenizer.json made from it") from None
    except ConfigError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{files[0]} does not read as a tokenizer ({error}); give a tokenizer.json, or fetch the file again") from None


def huggingface(plain: dict[str, Any]) -> Backend:
    """A `tokenizer.json`, without what would cut, pad or vary its ids: truncation, padding, and dropped merges."""
    if not isinstance(plain.get("model"), dict):
        raise DataError("is JSON, but no tokenizer.json; of GPT-2's two files give the folder")
    model = plain["model"] | ({"dropout": None} if "dropout" in plain["model"] else {})
    return Backend.from_str(json.dumps(plain | {"model": model, "truncation": None, "padding": None}))


def gpt2(vocabulary: dict[str, int], merges: str) -> Backend:
    """GPT-2's `vocab.json` and `merges.txt`."""
    lines = [line for line in merges.splitlines() if line and not line.startswith("#version")]
    pairs = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    backend = Backend(models.BPE(vocab=vocabulary, merges=pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special(token for token in ("<|endoftext|>",) if token in vocabulary))
    return backend


def tiktoken(data: bytes, split: PatternSplit) -> Backend:
    """tiktoken's list of byte strings and their ranks, which are their ids."""
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in data.splitlines() if line)}
    if not all(bytes([byte]) in ranks for byte in range(256)):
        raise DataError("is a list of tokens that lacks some bytes")
    merges = [(_spelled(left), _spelled(right)) for left, right in merges_of(ranks)]
    # a word that is a token is that token, whatever the merges would make of it
    backend = Backend(models.BPE(vocab={_spelled(token): rank for token, rank in ranks.items()}, merges=merges, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence([*split.steps(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    return backend


def _spelled(token: bytes) -> str:
    return "".join(BYTE_ALPHABET[byte] for byte in token)


def _read(path: Path) -> bytes:
    if (size := path.stat().st_size) > LARGEST_BYTES:
        raise DataError(f"{path} has {size} bytes, more than a tokenizer takes; give a tokenizer's file")
    return path.read_bytes()
