"""Instructions, conversations and preferences: rows of any usual form as one, prompts for plain text, and ways to vary them."""

from bloomery.text.instructions.few_shot import Example, FewShot, QuestionForm, Written, examples_of
from bloomery.text.instructions.forms import Conversation, read_row
from bloomery.text.instructions.keyphrases import KeyPhrases, Rake, TextRank
from bloomery.text.instructions.preferences import Completion, Preference, preference_of
from bloomery.text.instructions.templates import Templates
from bloomery.text.instructions.variations import Case, DroppedPunctuation, ReorderedSentences, Synonyms, Typos, Variation

__all__ = [
    "Case", "Completion", "Conversation", "DroppedPunctuation", "Example", "FewShot", "KeyPhrases", "Preference", "QuestionForm", "Rake",
    "ReorderedSentences", "Synonyms", "Templates", "TextRank", "Typos", "Variation", "Written", "examples_of", "preference_of", "read_row",
]  # fmt: skip
