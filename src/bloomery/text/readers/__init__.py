"""Where documents come from: files of any kind and place, the standard library, tales."""

from bloomery.text.readers.files import Files
from bloomery.text.readers.reader import Reader
from bloomery.text.readers.standard_library import StandardLibrary
from bloomery.text.readers.tales import TaleConversations, TaleStories

__all__ = ["Files", "Reader", "StandardLibrary", "TaleConversations", "TaleStories"]
