"""Tasks and scorers: what is asked of a model, and how an answer is judged."""

from bloomery.evals.choices import MultipleChoice
from bloomery.evals.estimates import Estimate, Measure, Spread
from bloomery.evals.exact_match import Answered, ExactMatch, Question, questions_of
from bloomery.evals.prompts import Prompt
from bloomery.evals.task import EvalTask, Outcome, Respondent, Score, Sitting
from bloomery.evals.text_likelihood import TextLikelihood
from bloomery.evals.written import Generative

__all__ = [
    "Answered",
    "Estimate",
    "EvalTask",
    "ExactMatch",
    "Generative",
    "Measure",
    "MultipleChoice",
    "Outcome",
    "Prompt",
    "Question",
    "Respondent",
    "Score",
    "Sitting",
    "Spread",
    "TextLikelihood",
    "questions_of",
]  # fmt: skip
