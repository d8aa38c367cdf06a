"""What happens to documents between reading and tokenizing: each filter keeps, rewrites or drops, and says why."""

from bloomery.text.filters.chain import Filtered, Flow, names_of, run_through, text_bytes
from bloomery.text.filters.duplicates import ExactDuplicates
from bloomery.text.filters.filter import VERDICTS, Filter, GlobalFilter, Measure, Notes, Operator, Verdicts, judge_all
from bloomery.text.filters.length import Length
from bloomery.text.filters.normalise import Normalise

__all__ = [
    "VERDICTS", "ExactDuplicates", "Filter", "Filtered", "Flow", "GlobalFilter", "Length", "Measure", "Normalise", "Notes", "Operator", "Verdicts",
    "judge_all", "names_of", "run_through", "text_bytes",
]  # fmt: skip
