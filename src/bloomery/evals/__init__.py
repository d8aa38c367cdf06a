"""Tasks and scorers: what is asked of a model, and how an answer is judged."""

from bloomery.evals.exact_match import Answered, ExactMatch, Question, questions_of
from bloomery.evals.task import EvalTask, Score

__all__ = ["Answered", "EvalTask", "ExactMatch", "Question", "Score", "questions_of"]
