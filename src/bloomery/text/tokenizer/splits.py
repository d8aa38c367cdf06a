"""Splits: how a text is cut into words before tokens are made. No token spans two words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from tokenizers import Regex, pre_tokenizers

from bloomery.core.config import Config

KINDS = {
    "url": r"https?://[^\s<>\"']+",
    "date": r"\p{N}{4}-\p{N}{2}-\p{N}{2}|\p{N}{1,2}[./]\p{N}{1,2}[./]\p{N}{4}",
    "number": r"\p{N}+(?:[.,]\p{N}+)*",
}


class Split(Config, ABC):
    """Cuts a text into words."""

    @abstractmethod
    def steps(self) -> list[pre_tokenizers.PreTokenizer]:
        """The same for the `tokenizers` library."""


class PatternSplit(Split):
    """Cuts a text into the matches of a regular expression and what lies between them. Every character is kept, white space too."""

    @property
    @abstractmethod
    def pattern(self) -> str:
        """The regular expression of one word."""

    def steps(self) -> list[pre_tokenizers.PreTokenizer]:
        return [pre_tokenizers.Split(Regex(self.pattern), behavior="isolated")]


class Gpt4(PatternSplit):
    """Contractions; letters with one leading blank or sign; digits in groups; signs with the newlines that follow; newlines; blanks, the
    last one left to the next word.

    Source: the `cl100k_base` pattern of OpenAI's tiktoken (MIT), as in Llama 3 (arXiv 2407.21783, section 3.2).
    """

    max_digits: Annotated[int, Ge(1), Le(9)] = 3
    """Longest group of digits in one word, counted from the left; 1 makes each digit a word."""

    @property
    def pattern(self) -> str:
        return (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1," + str(self.max_digits) + r"}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )


class Gpt2(PatternSplit):
    """Contractions; letters, digits or signs with one leading blank; white space, the last character left to the next word.

    Source: the pattern of GPT-2's encoder.py (Radford et al., 2019; MIT).
    """

    @property
    def pattern(self) -> str:
        return r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class Whole(PatternSplit):
    """Keeps URLs, dates or numbers whole, with one leading blank, so that a frequent one can become one token; cuts the rest as `rest` does."""

    kinds: Annotated[tuple[Literal["url", "date", "number"], ...], MinLen(1)] = ("url", "date")
    """What is kept whole; the earlier kind wins."""
    rest: Gpt4 | Gpt2 = Gpt4()
    """How all else is cut."""

    @property
    def pattern(self) -> str:
        return f" ?(?:{'|'.join(KINDS[kind] for kind in self.kinds)})|{self.rest.pattern}"


class Gaps(Split):
    """Cuts at white space, which is thrown away."""

    def steps(self) -> list[pre_tokenizers.PreTokenizer]:
        return [pre_tokenizers.WhitespaceSplit()]


class Signs(Gaps):
    """Cuts at white space, which is thrown away, and makes every sign of punctuation a word.

    Source: the basic tokenizer of BERT (Devlin et al., 2019, arXiv 1810.04805).
    """

    def steps(self) -> list[pre_tokenizers.PreTokenizer]:
        return [pre_tokenizers.BertPreTokenizer()]
