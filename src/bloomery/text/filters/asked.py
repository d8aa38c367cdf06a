"""`Asked`: duplicates among what is asked, whatever the answers."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from bloomery.text.filters.duplicates import ExactDuplicates
from bloomery.text.filters.filter import GlobalFilter, Notes, Verdicts
from bloomery.text.filters.minhash import MinHash


class Asked(GlobalFilter):
    """Drops conversations in which the user says what was said before, or nearly so; of documents that are no conversations, the text counts.

    Two answers to one question are a contradiction or a repetition, which a filter of whole texts does not see. With the seeds as `known`
    corpus, what repeats one of them goes.

    Example:
        >>> Asked(same=MinHash(shingle_words=2, bands=28, rows=4, min_jaccard=0.7))

    Source: Wang et al. (2022), arXiv 2212.10560, section 2.2 (instructions like earlier ones are dropped); departures: Jaccard similarity of
    runs of words in place of ROUGE-L.
    """

    same: ExactDuplicates | MinHash = ExactDuplicates()
    """What counts as the same."""

    def note(self, batch: pa.RecordBatch) -> pa.Table:
        return self.same.note(_asked(batch))

    def resolve(self, notes: Notes) -> pa.Table:
        return self.same.resolve(notes)

    def apply(self, batch: pa.RecordBatch, decisions: pa.Table) -> Verdicts:
        return replace(self.same.apply(_asked(batch), decisions), batch=batch)


def _asked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with what the user says as its texts."""
    pairs = zip(batch.column("text").to_pylist(), batch.column("messages").to_pylist(), strict=True)
    said = [text if talk is None else "\n\n".join(m["content"] for m in talk if m["role"] == "user") for text, talk in pairs]
    at = batch.schema.get_field_index("text")
    return batch.set_column(at, batch.schema.field(at), pa.array(said, pa.string()))
