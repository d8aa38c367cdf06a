"""`Compared`: rows of pairs, each side a document that does not see the other."""

from __future__ import annotations

from bloomery.data.batch import Batch
from bloomery.data.source import Rows
from bloomery.data.tasks.labels import documents_apart
from bloomery.data.tasks.task import NextToken, RowTask
from bloomery.data.tasks.vocabulary import Vocabulary


class Compared(RowTask):
    """Rows of `Pairs`, for losses that compare their sides: the documents of a row are pairs, one behind the other, the better side of each
    first. What counts of each is what its completion says.
    """

    def batch(self, rows: Rows, first_row: int, seed: int, vocabulary: Vocabulary) -> Batch:
        return NextToken().batch(documents_apart(rows, vocabulary), first_row, seed, vocabulary)
