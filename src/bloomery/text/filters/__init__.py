"""What happens to documents between reading and tokenizing: each filter keeps, rewrites or drops, and says why."""

from bloomery.text.filters.asked import Asked
from bloomery.text.filters.bias import Bias
from bloomery.text.filters.boilerplate import Boilerplate
from bloomery.text.filters.c4 import C4Quality
from bloomery.text.filters.chain import Filtered, Flow, names_of, run_through, text_bytes
from bloomery.text.filters.code import CodeQuality
from bloomery.text.filters.decontaminate import Decontaminate, leak_report
from bloomery.text.filters.drafts import AskBack, ReadDrafts
from bloomery.text.filters.duplicates import ExactDuplicates
from bloomery.text.filters.encoding import RepairEncoding
from bloomery.text.filters.extract import ExtractHtml
from bloomery.text.filters.filter import VERDICTS, Filter, GlobalFilter, Measure, Notes, Operator, Verdicts, judge_all
from bloomery.text.filters.fineweb import FineWebQuality
from bloomery.text.filters.gopher import GopherQuality
from bloomery.text.filters.gopher_repetition import GopherRepetition
from bloomery.text.filters.language import Language
from bloomery.text.filters.length import Length
from bloomery.text.filters.minhash import MinHash
from bloomery.text.filters.normalise import Normalise, Punctuation, WhiteSpace
from bloomery.text.filters.only import Only
from bloomery.text.filters.personal_data import PersonalData
from bloomery.text.filters.pieces import DuplicateLines, DuplicateParagraphs
from bloomery.text.filters.prompts import Reword, WritingPrompts
from bloomery.text.filters.semantic import SemanticDuplicates
from bloomery.text.filters.substrings import DuplicateSubstrings
from bloomery.text.filters.suspicion import Suspicion
from bloomery.text.filters.symbols import Symbols
from bloomery.text.filters.toxicity import Toxicity
from bloomery.text.filters.vary import Vary

__all__ = [
    "VERDICTS", "AskBack", "Asked", "Bias", "Boilerplate", "C4Quality", "CodeQuality", "Decontaminate", "DuplicateLines",
    "DuplicateParagraphs", "DuplicateSubstrings", "ExactDuplicates", "ExtractHtml", "Filter", "Filtered", "FineWebQuality", "Flow",
    "GlobalFilter", "GopherQuality", "GopherRepetition", "Language", "Length", "Measure", "MinHash", "Normalise", "Notes", "Only",
    "Operator", "PersonalData", "Punctuation", "ReadDrafts", "RepairEncoding", "Reword", "SemanticDuplicates", "Suspicion", "Symbols",
    "Toxicity", "Vary", "Verdicts", "WhiteSpace", "WritingPrompts", "judge_all", "leak_report", "names_of", "run_through", "text_bytes",
]  # fmt: skip
