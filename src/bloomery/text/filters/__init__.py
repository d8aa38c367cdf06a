"""What happens to documents between reading and tokenizing: each filter keeps, rewrites or drops, and says why."""

from bloomery.text.filters.chain import Chain, Flow
from bloomery.text.filters.duplicates import ExactDuplicates
from bloomery.text.filters.filter import VERDICTS, Filter, GlobalFilter, Judge, Verdicts
from bloomery.text.filters.length import Length
from bloomery.text.filters.normalise import Normalise

__all__ = ["VERDICTS", "Chain", "ExactDuplicates", "Filter", "Flow", "GlobalFilter", "Judge", "Length", "Normalise", "Verdicts"]
