"""What people say of answers: a file to which judgements are only ever added, how far they agree, and the rows that come of it."""

from bloomery.stages.labels.agreement import Agreement, agreement
from bloomery.stages.labels.items import Item, items_of
from bloomery.stages.labels.judgements import Judgement, Judgements, ranks_of
from bloomery.stages.labels.rows import rows_of

__all__ = ["Agreement", "Item", "Judgement", "Judgements", "agreement", "items_of", "ranks_of", "rows_of"]
