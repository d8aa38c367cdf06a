"""Mojibake: repaired where it is certain, line by line, and nothing else touched."""

import pytest
from ftfy import fix_encoding

from bloomery.text.documents import Document, conversation, to_batch
from bloomery.text.filters import RepairEncoding
from bloomery.text.tales.dirt import Dirt
from bloomery.text.tales.tales import Tales

RIGHT = (
    "“Déjà vu”, dit-elle — voilà !", "Größe und Länge: 5 ½ m², 20 °C", "Привет, мир! «Как дела?»", "日本語の文章です。",
    "naïve café – 10 £ and 5 €",
    "Ó não, coração!", "Œuvre d’art à Évreux", "ÀÉÎÕÜ", "│ box │ drawing │", "√2 ≈ 1.414", "Ελλάδα, «καλημέρα»", "à la carte", "x² × y³",
    "¿Qué tal? ¡Muy bien! Año 2020 º ª", "Zażółć gęślą jaźń", "Türkçe ığüşöç", "Tiếng Việt có dấu", "العربية، نعم؟",
)  # fmt: skip


def judged(*texts):
    return RepairEncoding()(to_batch([Document(f"d{i}", text, "s") for i, text in enumerate(texts)]))


CODECS = ("latin-1", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257", "mac_roman", "cp437")


@pytest.mark.parametrize("codec", CODECS)
def test_what_the_pattern_passes_over_is_nothing_that_the_closer_look_would_repair(codec):
    wrong = [text.encode().decode(codec, "ignore") for text in RIGHT]
    assert judged(*wrong).batch["text"].to_pylist() == [fix_encoding(text) for text in wrong]


@pytest.mark.parametrize("codec", ["latin-1", "cp1252", "mac_roman"])
@pytest.mark.parametrize("text", ["‘Déjà vu’, dit-elle — voilà", "Größe und Länge", "schön — ‘gut’"])
def test_utf8_read_as_something_else_is_read_again(text, codec):
    assert judged(text.encode().decode(codec, "replace")).batch["text"].to_pylist() == [text]


def test_twice_wrong_is_made_right():
    assert judged("voilà — là".encode().decode("latin-1").encode().decode("latin-1")).batch["text"].to_pylist() == ["voilà — là"]


def test_what_is_right_stays():
    assert judged(*RIGHT).reasons.null_count == len(RIGHT)


def test_one_wrong_line_among_right_ones_is_repaired_and_marked():
    verdicts = judged("日本語\ncafÃ© au lait\nß")
    assert verdicts.batch["text"].to_pylist() == ["日本語\ncafé au lait\nß"]
    (span,) = verdicts.spans[0].as_py()
    assert "日本語\ncafé au lait\nß"[span["start"] : span["end"]] == "café au lait"


def test_conversations_are_repaired_in_their_contents():
    talk = [{"role": "user", "content": "cafÃ©?"}, {"role": "assistant", "content": "Yes."}]
    batch = RepairEncoding()(to_batch([conversation("d", "s", talk), Document("e", "plain", "s")])).batch
    assert batch["text"].to_pylist() == ["café?\n\nYes.", "plain"]
    assert batch["messages"][0].as_py()[0]["content"] == "café?"


def test_long_lines_are_left_alone():
    line = "cafÃ© " * 50
    assert RepairEncoding(max_line_chars=299)(to_batch([Document("d", line, "s")])).reasons.null_count == 1


def test_planted_mojibake_is_found_and_clean_tales_stay():
    planted = list(Dirt(mojibake=0.2).plant(Tales(), 200))
    found = judged(*(d.text for d in planted)).reasons.is_valid().to_pylist()
    assert found == [d.label == "mojibake" for d in planted]
