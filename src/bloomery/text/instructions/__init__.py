"""Instructions, conversations and preferences: rows of any usual form as one, prompts for plain text, and ways to vary them."""

from bloomery.text.instructions.forms import Conversation, read_row
from bloomery.text.instructions.preferences import Completion, Preference, preference_of

__all__ = ["Completion", "Conversation", "Preference", "preference_of", "read_row"]
