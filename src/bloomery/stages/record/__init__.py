"""The record of a prepared corpus: what each filter did, to which documents and why; looked at, asked and laid out. Nothing here changes it."""

from bloomery.stages.inert import inert, one_line
from bloomery.stages.record.card import card
from bloomery.stages.record.html import html_page
from bloomery.stages.record.page import figures, page_of, share
from bloomery.stages.record.pairs import Leak, Pair, leaks, pairs
from bloomery.stages.record.pieces import Piece, differences, excerpt
from bloomery.stages.record.record import Found, Judgement, Record
from bloomery.stages.record.story import Story, story
from bloomery.stages.record.what_if import WhatIf, condition, what_if

__all__ = [
    "Found", "Judgement", "Leak", "Pair", "Piece", "Record", "Story", "WhatIf",
    "card", "condition", "differences", "excerpt", "figures", "html_page", "inert", "leaks", "one_line", "page_of", "pairs", "share", "story",
    "what_if",
]  # fmt: skip
