"""Normalisers: what a tokenizer does to a text before it cuts it. All of them lose something; a corpus is better normalised by a filter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from tokenizers import normalizers

from bloomery.core.config import Config


class Normaliser(Config, ABC):
    """Changes a text before it is cut into words."""

    @abstractmethod
    def backend(self) -> normalizers.Normalizer:
        """The same for the `tokenizers` library."""


class UnicodeForm(Normaliser):
    """One of Unicode's normal forms (UAX #15)."""

    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFC"
    """C joins letters and accents, D parts them; K also replaces look-alikes (ﬁ, ², ①) by plain characters."""

    def backend(self) -> normalizers.Normalizer:
        forms = {"NFC": normalizers.NFC, "NFD": normalizers.NFD, "NFKC": normalizers.NFKC, "NFKD": normalizers.NFKD}
        return forms[self.form]()


class Lowercase(Normaliser):
    """Capitals become small letters."""

    def backend(self) -> normalizers.Normalizer:
        return normalizers.Lowercase()


class StripAccents(Normaliser):
    """Letters lose their accents: é becomes e."""

    def backend(self) -> normalizers.Normalizer:
        return normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
