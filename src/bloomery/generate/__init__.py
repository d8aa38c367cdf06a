"""Decoding: samplers, rules and searches; the loops that drive a model and its cache; and models that answer over HTTP."""

from bloomery.generate.beam import Beam
from bloomery.generate.compiled import CompiledStep
from bloomery.generate.constraints import OneOf
from bloomery.generate.contrastive import Contrastive
from bloomery.generate.decode import Reads, complete, complete_by, stream, stream_by
from bloomery.generate.dola import DoLa
from bloomery.generate.drafters import Draft, Drafter, EarlyExit, Ngram
from bloomery.generate.draws import Draws
from bloomery.generate.endpoint import Access, NotThereError, RefusedError, Reply, Request, again, ask
from bloomery.generate.engine import Engine
from bloomery.generate.grammar import Grammar, Json, Regex
from bloomery.generate.jobs import Job, job_by
from bloomery.generate.past import FloatPast, Int8Past, Past
from bloomery.generate.picks import Picks
from bloomery.generate.rules import Frequency, LogitBias, NoRepeatNGram, Presence, Repetition, Rule, Text
from bloomery.generate.samplers import Greedy, Random, Sampler
from bloomery.generate.search import Found, Search, search
from bloomery.generate.sentences import NoRepeatedSentence
from bloomery.generate.stops import Spelling, Stops
from bloomery.generate.weights import Bfloat16Weights, CompiledWeights, Int4Weights, Int8Weights, Nf4Weights, PackedWeights, Weights
from bloomery.generate.writer import Decoding, Writer, Written

__all__ = [
    "Access", "Beam", "Bfloat16Weights", "CompiledStep", "CompiledWeights", "Contrastive", "Decoding", "DoLa", "Draft", "Drafter", "Draws",
    "EarlyExit", "Engine", "FloatPast", "Found", "Frequency", "Grammar", "Greedy", "Int4Weights", "Int8Past", "Int8Weights", "Job", "Json",
    "LogitBias", "Nf4Weights", "Ngram", "NoRepeatNGram", "NoRepeatedSentence", "NotThereError", "OneOf", "PackedWeights", "Past", "Picks",
    "Presence", "Random", "Reads", "RefusedError", "Regex", "Repetition", "Reply", "Request", "Rule", "Sampler", "Search", "Spelling",
    "Stops", "Text", "Weights", "Writer", "Written", "again", "ask", "complete", "complete_by", "job_by", "search", "stream", "stream_by",
]  # fmt: skip
