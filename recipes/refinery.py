"""From raw pages, books and rows to a clean corpus, with every verdict on record."""

from __future__ import annotations

from bloomery.recipe import Recipe
from bloomery.stages.prepare import Prepare
from bloomery.text import filters as f
from bloomery.text.readers import Files, Reader, Rows


def refinery(*, source: str, tests: str = "", language: str = "en", held_out: float = 0.0) -> Recipe:
    """Refines --source: a folder of pages, web archives, dumps, books, tables, JSONL or text; --tests is what must not be in it.

    What cannot be read is passed over and on record: of raw data some always cannot.
    """
    files = Files(path=source, on_bad_file="count", rows=Rows(on_bad_row="count"))
    filters = web_filters(language, (Files(path=tests),) if tests else ())
    return Recipe(name="refinery", wanted=(Prepare(name="refined", source=files, filters=filters, held_out=held_out),))


def web_filters(language: str, tests: tuple[Reader, ...]) -> tuple[f.Filter, ...]:
    """For documents of some hundred words and more, in the manner of FineWeb; what is cheap and drops much comes first."""
    return (
        f.ExtractHtml(), f.RepairEncoding(), f.Normalise(), f.Symbols(), f.WhiteSpace(), f.Length(min_chars=200),
        f.Language(keep=(language,), min_confidence=0.65), f.GopherRepetition(), f.GopherQuality(), f.FineWebQuality(), f.Suspicion(),
        f.PersonalData(), f.ExactDuplicates(), f.MinHash(), f.DuplicateLines(), f.Length(min_chars=200),
        *((f.Decontaminate(tests=tests),) if tests else ()),
    )  # fmt: skip


def short_document_filters(language: str, tests: tuple[Reader, ...]) -> tuple[f.Filter, ...]:
    """For texts of a few sentences, such as the tales: rules for web pages would drop them, and they share phrases without being copies."""
    return (
        f.RepairEncoding(), f.Normalise(), f.Symbols(), f.WhiteSpace(), f.Boilerplate(), f.Length(min_chars=20), f.Language(keep=(language,)),
        f.PersonalData(), f.ExactDuplicates(), f.MinHash(shingle_words=3, bands=28, rows=4, min_jaccard=0.55),
        *((f.Decontaminate(tests=tests, max_share=0.3),) if tests else ()),
    )  # fmt: skip
