"""Tokenizers: texts to ids and back. Trained here over bytes, characters, pieces or words, or read from the files of others."""

from bloomery.text.tokenizer.models import BPE, ByteBPE, Bytes, Characters, TokenModel, Unigram, WordPiece, Words
from bloomery.text.tokenizer.normalisers import Lowercase, Normaliser, StripAccents, UnicodeForm
from bloomery.text.tokenizer.splits import Gaps, Gpt2, Gpt4, PatternSplit, Signs, Split, Whole
from bloomery.text.tokenizer.tokenizer import CONTROL_TOKENS, ROLES, Tokenizer, without_surrogates

__all__ = [
    "BPE", "CONTROL_TOKENS", "ROLES", "ByteBPE", "Bytes", "Characters", "Gaps", "Gpt2", "Gpt4", "Lowercase", "Normaliser",
    "PatternSplit", "Signs", "Split", "StripAccents", "TokenModel", "Tokenizer", "UnicodeForm", "Unigram", "Whole", "WordPiece", "Words",
    "without_surrogates",
]  # fmt: skip
