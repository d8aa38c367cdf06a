"""What is to be learnt from rows of documents: tasks, as values."""

from bloomery.data.tasks.compared import WORTH, Compared, OfCompletions, Ordered, Unpaired
from bloomery.data.tasks.corruption import SpanCorruption
from bloomery.data.tasks.labels import BothWays, TellLabels
from bloomery.data.tasks.masked import MaskedTokens
from bloomery.data.tasks.order import SentenceOrder
from bloomery.data.tasks.passage import FromPassage, FromPrefix
from bloomery.data.tasks.task import NextToken, Posed, PrefixLM, RowTask, once
from bloomery.data.tasks.units import Entity, Span, Token, Unit, Word
from bloomery.data.tasks.vocabulary import MASK, Vocabulary, room, sentinel

__all__ = [
    "MASK", "WORTH", "BothWays", "Compared", "Entity", "FromPassage", "FromPrefix", "MaskedTokens", "NextToken", "OfCompletions", "Ordered",
    "Posed", "PrefixLM", "RowTask", "SentenceOrder", "Span", "SpanCorruption", "TellLabels", "Token", "Unit", "Unpaired", "Vocabulary",
    "Word", "once", "room", "sentinel",
]  # fmt: skip
