"""Where documents come from: files of any kind and place, the standard library, tales."""

from bloomery.text.readers.chapters import Chapters
from bloomery.text.readers.code import Code
from bloomery.text.readers.crawl import Crawl, Crawled, crawl
from bloomery.text.readers.files import Files
from bloomery.text.readers.reader import Damage, OnDamage, Reader, warn
from bloomery.text.readers.rows import Rows
from bloomery.text.readers.standard_library import StandardLibrary
from bloomery.text.readers.tales import TaleContinuations, TaleConversations, TalePreferences, TaleRows, TaleStories

__all__ = [
    "Chapters", "Code", "Crawl", "Crawled", "Damage", "Files", "OnDamage", "Reader", "Rows", "StandardLibrary", "TaleContinuations",
    "TaleConversations", "TalePreferences", "TaleRows", "TaleStories", "crawl", "warn",
]
