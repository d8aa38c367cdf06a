"""The statistics of the filters as one would write them for one text, slowly; and documents to try them on."""

import json
import unicodedata
from collections import Counter

from hypothesis import strategies as st

from bloomery.text.documents import Document, to_batch

OWN_WORD = ("CJK", "HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR")


def documents(*texts):
    return to_batch([Document(f"d{i}", text, "s") for i, text in enumerate(texts)])


def measures_of(verdicts, i=0):
    return {m.name: m.values[i].as_py() for m in verdicts.measures}


def own(c):
    return 0x20000 <= ord(c) < 0x40000 or (unicodedata.category(c)[0] == "L" and unicodedata.name(c, "").startswith(OWN_WORD))


def letter(c):
    return unicodedata.category(c)[0] == "L" and not own(c)


def mark(c):
    return c != "\u200b" and (unicodedata.category(c)[0] == "M" or unicodedata.category(c) == "Cf" or c == "_" or 0xE0000 <= ord(c) < 0xE1000)


def digit(c):
    return unicodedata.category(c)[0] == "N"


def space(c):
    return c.isspace() or unicodedata.category(c) in ("Cc", "Zs", "Zl", "Zp") or c == "\u200b"


def in_word(text, i):
    c = text[i]
    if letter(c) or mark(c) or digit(c):
        return True
    if 0 < i < len(text) - 1:
        a, b = text[i - 1], text[i + 1]
        if c in "'’.·" and (letter(a) or mark(a)) and (letter(b) or mark(b)):
            return True
        return c in "'’.," and digit(a) and digit(b)
    return False


def words(text):
    """The words of a text, character by character."""
    found, before = [], None
    for i, c in enumerate(text):
        kind = None if space(c) else "word" if in_word(text, i) else "own" if own(c) else c
        if kind is None:
            pass
        elif kind == before != "own" or (before == "own" and mark(c)):
            found[-1] += c
        else:
            found.append(c)
        before = kind
    return found


def symbol(word):
    return not any(letter(c) or own(c) or digit(c) for c in word)


def grams(tokens, n):
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def top_gram_chars(tokens, n):
    if len(tokens) < n:
        return 0
    gram, count = Counter(grams(tokens, n)).most_common(1)[0]
    return len(" ".join(gram)) * count


def read_again_chars(tokens, n):
    seen, chars, i = set(), 0, 0
    while i <= len(tokens) - n:
        gram = tuple(tokens[i : i + n])
        chars += len("".join(gram)) if gram in seen else 0
        i += n if gram in seen else 1
        seen.add(gram)
    return chars


def repeated(lines):
    seen, again = set(), []
    for line in lines:
        if line in seen:
            again.append(line)
        seen.add(line)
    return again


pieces = st.sampled_from([
    "a", "b", "the", "of", "The", "word", "don't", "3.14", "1,000", "...", "#", "—", "e\u0301", "漢字", "ก็", "x_y", "_", " ", "  ", "\n",
    "\n\n", "\n\n\n", "- item", "• x", "end.", "“q”", "…", ".", ",", "'", "😀😀", "\u200b", "\x00", "\xa0", "\U00020000", "\U000e0041", "{",
    "a.b.c.", "ﬁ",
])  # fmt: skip
texts = st.one_of(
    st.lists(pieces, max_size=60).map("".join), st.lists(pieces, max_size=60).map(" ".join), st.text(max_size=40),
    st.lists(st.sampled_from("ab"), max_size=80).map(" ".join),
)  # fmt: skip


def real_documents(root):
    """Pages of C4, articles of Wikipedia, and pieces of novels."""
    folder = root / "A_text" / "wiki_c4_demo"
    found = [json.loads(line)["text"] for line in (folder / "c4_demo.jsonl").read_text(encoding="utf-8").splitlines()]
    found += (folder / "wiki_demo.txt").read_text(encoding="utf-8").splitlines()
    for path in sorted((root / "A_text" / "english_novels_100").glob("*_*.txt"))[:8]:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        found += [text[i : i + 4000] for i in range(0, 60_000, 4000)]
    return found
