"""Token models: what a token is made of, and how a vocabulary of them is learnt. All of them run in the `tokenizers` library."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from bloomery.core.config import Config
from bloomery.text.tokenizer.alphabet import BLANK, BYTE_ALPHABET, BYTE_TOKENS
from bloomery.text.tokenizer.normalisers import Normaliser
from bloomery.text.tokenizer.splits import Gaps, Gpt4, PatternSplit, Signs

UNKNOWN = "<|unknown|>"
LADDER = 1e-4  # the step by which the library tells letters apart that it has put back


class TokenModel(Config, ABC):
    """What a token is made of."""

    learns: ClassVar[bool] = True
    """Whether the vocabulary depends on a corpus."""
    needs: ClassVar[int] = 1
    """Ids that it needs beside the control tokens."""
    most: ClassVar[int | None] = None
    """Ids that it can have beside the control tokens; None where a corpus decides."""

    normalisers: tuple[Normaliser, ...] = ()
    """What is done to a text first, one after the other."""

    @abstractmethod
    def learn(self, texts: Iterable[str], vocab_size: int, controls: Sequence[str]) -> Backend:
        """The tokenizer that the texts teach.

        Args:
            texts: read once, in order.
            vocab_size: ids wanted; a small corpus may yield fewer.
            controls: the control tokens, which get the ids from 0 on.
        """

    @property
    def can_miss(self) -> bool:
        """Whether some text has no token but `<|unknown|>`, which then is a control token."""
        return False

    def _trained(self, model: models.Model, steps: Sequence[pre_tokenizers.PreTokenizer], trainer: Any, texts: Iterable[str]) -> Backend:
        backend = self._backend(model, steps)
        backend.train_from_iterator(texts, trainer)
        return backend

    def _backend(self, model: models.Model, steps: Sequence[pre_tokenizers.PreTokenizer]) -> Backend:
        backend = Backend(model)
        if self.normalisers:
            backend.normalizer = normalizers.Sequence([normaliser.backend() for normaliser in self.normalisers])
        backend.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
        return backend


class ByteBPE(TokenModel):
    """Pairs of bytes merged, the most frequent first. Every text has ids and survives them.

    Source: Sennrich et al. (2016), arXiv 1508.07909, over bytes as in Radford et al. (2019).
    """

    needs: ClassVar[int] = 256

    split: PatternSplit = Gpt4()
    """The words within which bytes are merged."""

    def learn(self, texts: Iterable[str], vocab_size: int, controls: Sequence[str]) -> Backend:
        steps = [*self.split.steps(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, min_frequency=2, show_progress=False, initial_alphabet=sorted(BYTE_ALPHABET),
            special_tokens=special(controls),
        )  # fmt: skip
        backend = self._trained(models.BPE(byte_fallback=False), steps, trainer, texts)
        backend.decoder = decoders.ByteLevel()
        return backend


class Bytes(TokenModel):
    """Each byte of the UTF-8 is a token. Every text has ids and survives them; nothing is learnt.

    Source: Xue et al. (2022), arXiv 2105.13626 (ByT5).
    """

    learns: ClassVar[bool] = False
    needs: ClassVar[int] = 256
    most: ClassVar[int | None] = 256

    def learn(self, texts: Iterable[str], vocab_size: int, controls: Sequence[str]) -> Backend:
        vocabulary = {token: i for i, token in enumerate([*controls, *BYTE_ALPHABET])}
        # words change no id here; they are what lets long texts be encoded in parts
        steps = [*Gpt4().steps(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        backend = self._backend(models.BPE(vocab=vocabulary, merges=[]), steps)
        backend.add_special_tokens(special(controls))
        backend.decoder = decoders.ByteLevel()
        return backend


class _Pieces(TokenModel):
    """Shared by the models whose tokens are spelled in characters, with ▁ for the blank."""

    split: PatternSplit = Gpt4()
    """The words within which tokens are made."""
    byte_fallback: bool = True
    """Whether a character outside the vocabulary is spelled in bytes, for which 256 ids are set aside; else it is `<|unknown|>`."""

    @property
    def can_miss(self) -> bool:
        return not self.byte_fallback

    def _steps(self) -> list[pre_tokenizers.PreTokenizer]:
        return [*self.split.steps(), pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="never", split=False)]

    def _reserved(self, controls: Sequence[str]) -> list[str]:
        return [*controls, *(BYTE_TOKENS if self.byte_fallback else ())]

    def _rebuilt(self, model: models.Model, controls: Sequence[str]) -> Backend:
        """The tokenizer of a model whose byte tokens are no special tokens, as they had to be while it was trained."""
        backend = self._backend(model, self._steps())
        backend.add_special_tokens(special(controls))
        backend.decoder = decoders.Sequence([decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()])
        return backend


class BPE(_Pieces):
    """Pairs of characters merged, the most frequent first. It loses the difference between ▁ (U+2581) and a blank.

    Source: Sennrich et al. (2016), arXiv 1508.07909; bytes and ▁ as in SentencePiece (Kudo and Richardson, 2018, arXiv 1808.06226).
    """

    def learn(self, texts: Iterable[str], vocab_size: int, controls: Sequence[str]) -> Backend:
        reserved = self._reserved(controls)
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, show_progress=False, special_tokens=special(reserved))
        read = covered(texts, vocab_size - len(reserved))
        trained = json.loads(self._trained(models.BPE(), self._steps(), trainer, read).to_str())["model"]
        merges = [tuple(merge) for merge in trained["merges"]]
        options = {"byte_fallback": True} if self.byte_fallback else {"unk_token": UNKNOWN}
        return self._rebuilt(models.BPE(vocab=trained["vocab"], merges=merges, **options), controls)


class Unigram(_Pieces):
    """The likeliest sequence of pieces under a model in which each has its own probability. It loses the difference between ▁ and a blank.

    Source: Kudo (2018), arXiv 1804.10959, with the defaults of SentencePiece; departures: words as in `split`.
    """

    needs: ClassVar[int] = 2

    @property
    def can_miss(self) -> bool:
        return True  # the library wants an unknown token even where bytes stand in for it

    def learn(self, texts: Iterable[str], vocab_size: int, controls: Sequence[str]) -> Backend:
        reserved = self._reserved(controls)
        room = vocab_size - len(reserved)
        trainer = trainers.UnigramTrainer(
            vocab_size=room + len(controls), show_progress=False, special_tokens=special(controls), unk_token=UNKNOWN,
        )  # fmt: skip
        trained = json.loads(self._trained(models.Unigram(), self._steps(), trainer, covered(texts, room)).to_str())["model"]["vocab"]
        pieces = in_order([(piece, score) for piece, score in trained if piece not in controls])
        vocabulary = [*((token, 0.0) for token in reserved), *pieces]
        return self._rebuilt(models.Unigram(vocabulary, unk_id=reserved.index(UNKNOWN), byte_fallback=self.byte_fallback), controls)


class WordPiece(TokenModel):
    """Words cut into the longest known pieces from the left; those that go on a word begin with ##. A word that cannot be cut so is unknown.
    It loses white space, and what is unknown.

    Source: Schuster and Nakajima (2012), as in BERT (arXiv 1810.04805); departures: the vocabulary is learnt by merging
    pairs, the most frequent first.
    """

    split: Gaps = Signs()
    """The words."""

    @property
    def can_miss(self) -> bool:
        return True

    def learn(self, texts: Iterable[str], vocab_size: int, controls: Sequence[str]) -> Backend:
        # the library's own trainer gives another vocabulary each time; merging ▁ like a letter tells beginnings of words as well
        steps = [*self.split.steps(), pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="always", split=False)]
        trainer = trainers.BpeTrainer(vocab_size=2 * vocab_size, min_frequency=2, show_progress=False)
        read = covered(texts, (vocab_size - len(controls)) // 2)  # each letter comes with and without ##
        trained = json.loads(self._trained(models.BPE(), steps, trainer, read).to_str())["model"]["vocab"]
        learnt = [piece for piece in sorted(trained, key=trained.__getitem__) if piece != BLANK]
        letters = [piece for piece in learnt if len(piece) == 1]
        pieces = [piece.removeprefix(BLANK) if piece.startswith(BLANK) else f"##{piece}" for piece in learnt]
        ordered = list(dict.fromkeys([*controls, *letters, *(f"##{letter}" for letter in letters), *pieces]))[:vocab_size]
        vocabulary = {piece: i for i, piece in enumerate(ordered)}
        backend = self._backend(models.WordPiece(vocab=vocabulary, unk_token=UNKNOWN), self.split.steps())
        backend.add_special_tokens(special(controls))
        backend.decoder = decoders.WordPiece(prefix="##", cleanup=False)
        return backend


class Words(TokenModel):
    """Each of the most frequent words is a token, every other word is unknown. It loses white space, and what is unknown."""

    split: Gaps = Signs()
    """The words."""

    @property
    def can_miss(self) -> bool:
        return True

    def learn(self, texts: Iterable[str], vocab_size: int, controls: Sequence[str]) -> Backend:
        trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, show_progress=False, special_tokens=special(controls))
        return self._trained(models.WordLevel(unk_token=UNKNOWN), self.split.steps(), trainer, texts)


class Characters(TokenModel):
    """Each of the most frequent characters is a token, every other character is unknown and lost."""

    @property
    def can_miss(self) -> bool:
        return True

    def learn(self, texts: Iterable[str], vocab_size: int, controls: Sequence[str]) -> Backend:
        trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, show_progress=False, special_tokens=special(controls))
        steps = [pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")]
        backend = self._trained(models.WordLevel(unk_token=UNKNOWN), steps, trainer, texts)
        backend.decoder = decoders.Fuse()
        return backend


def special(tokens: Iterable[str]) -> list[AddedToken]:
    """Tokens that the library does not look for inside normalised text."""
    return [AddedToken(token, special=True, normalized=False) for token in tokens]


def covered(texts: Iterable[str], room: int) -> list[str]:
    """The texts, with a blank for each of the rarer characters, so that characters take at most half of `room` ids.

    The library would choose among characters of one frequency at random, or give up.
    """
    kept = list(texts)
    counts: Counter[str] = Counter()
    for text in kept:
        counts.update(text)
    rare = sorted(counts, key=lambda char: (-counts[char], char))[max(1, room // 2) :]
    blanks = str.maketrans(dict.fromkeys(rare, " "))
    return [text.translate(blanks) for text in kept] if rare else kept


def in_order(pieces: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Pieces by falling score; the same whenever they were learnt from the same texts.

    The library adds in random order, and letters that it has pruned it puts back at random places of a ladder above the least score.
    """
    least = min((score for _, score in pieces), default=0.0)
    rung = {piece: round((score - least) / LADDER) for piece, score in pieces if len(piece) == 1}
    on_ladder = [piece for piece, score in pieces if piece in rung and abs(least + rung[piece] * LADDER - score) < LADDER / 1000]
    placed = dict(zip(sorted(on_ladder), sorted(rung[piece] for piece in on_ladder), strict=True))
    found = [(piece, round(least + placed[piece] * LADDER if piece in placed else score, 6)) for piece, score in pieces]
    return sorted(found, key=lambda entry: (-entry[1], entry[0]))

