"""Languages: told, written down, kept or dropped, and routed by."""

import json

import pyarrow as pa
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.text.documents import Document, conversation, to_batch
from bloomery.text.filters import ExactDuplicates, Language, Length, Only, Punctuation, WhiteSpace
from bloomery.text.filters.language import identify, sampled
from bloomery.text.filters.meta import read_meta, with_meta
from bloomery.text.tales.dirt import Dirt
from bloomery.text.tales.tales import Tales

SENTENCES = {
    "en": "The quick brown fox ran over the hill and was never seen again.",
    "de": "Der schnelle braune Fuchs lief über den Hügel und wurde nie wieder gesehen.",
    "fr": "Le renard brun a couru sur la colline et personne ne l'a jamais revu.",
    "ru": "Быстрая бурая лиса пробежала через холм, и больше её не видели.",
    "zh": "那只敏捷的棕色狐狸跑过山丘，再也没有人见过它。",
    "ar": "ركض الثعلب البني السريع فوق التل ولم يره أحد مرة أخرى.",
}


def batch_of(*texts, metas=None):
    return to_batch([Document(f"d{i}", text, "s", None, metas[i] if metas else None) for i, text in enumerate(texts)])


def test_languages_are_told():
    codes, confidence = identify(pa.array(SENTENCES.values()))
    assert codes.to_pylist() == list(SENTENCES)
    assert all(0.5 < p <= 1 for p in confidence.to_pylist())


def test_texts_without_letters_have_no_language():
    codes, confidence = identify(pa.array(["", "123 456", "!!! \n ---", " " * 3000 + "word" + " " * 9000]))
    assert codes.to_pylist() == ["und"] * 4
    assert confidence.to_pylist() == [0.0] * 4


def test_the_language_goes_into_meta_beside_what_is_there():
    batch = batch_of(*[SENTENCES["de"]] * 4, metas=[None, "{}", '{"url": "a\\"b"}', '{"language": "xx", "n": 1}'])
    metas = [json.loads(meta) for meta in Language()(batch).batch["meta"].to_pylist()]
    assert [meta["language"] for meta in metas] == ["de"] * 4
    assert metas[2]["url"] == 'a"b'
    assert metas[3]["n"] == 1
    assert all(meta["language_confidence"] > 0.5 for meta in metas)


def test_others_than_the_wanted_are_dropped_with_their_language_and_confidence():
    verdicts = Language(keep=("en", "de"))(batch_of(*SENTENCES.values()))
    assert verdicts.kept()["text"].to_pylist() == [SENTENCES["en"], SENTENCES["de"]]
    row = verdicts.table("Language").to_pylist()[2]
    assert (row["action"], row["reason"], row["threshold"]) == ("drop", "language fr", None)
    assert row["value"] > 0.5


def test_the_uncertain_are_dropped_by_the_bound():
    verdicts = Language(keep=("en", "und"), min_confidence=0.65)(batch_of(SENTENCES["en"], "123"))
    assert verdicts.reasons.to_pylist() == ["language en", "confidence below 0.65"]
    assert verdicts.dropped.to_pylist() == [False, True]
    assert verdicts.table("f").to_pylist()[1]["threshold"] == 0.65


def test_long_documents_are_judged_by_a_sample():
    text = "日本" * 200 + SENTENCES["de"] * 3000 + "ß" * 1001
    (sample,) = sampled(pa.array([text]), 300).to_pylist()
    assert len(sample.encode()) <= 302
    assert sample.startswith("日本")
    assert "Fuchs" in sample
    assert sample.endswith("ß")
    assert identify(pa.array([SENTENCES["de"] * 3000]))[0].to_pylist() == ["de"]


def test_samples_of_slices_are_cut_where_they_are():
    texts = pa.array(["x" * 500, "y" * 500, "zz"]).slice(1)
    assert [set(sample) for sample in sampled(texts, 300).to_pylist()] == [{"y", " "}, {"z"}]


def test_wrong_codes_and_bounds_are_refused():
    with pytest.raises(ConfigError, match="names 'English', which is no code"):
        Language(keep=("English",))
    with pytest.raises(ConfigError, match="min_confidence"):
        Language(min_confidence=2)


def test_planted_foreign_documents_are_found_and_no_english_one_is_lost():
    planted = list(Dirt(foreign=0.2).plant(Tales(), 300))
    dropped = Language(keep=("en",))(batch_of(*(d.text for d in planted))).dropped.to_pylist()
    assert dropped == [d.label == "foreign" for d in planted]


def test_meta_that_is_no_object_is_an_error_that_names_the_document():
    with pytest.raises(DataError, match="meta of 'd0' is not a JSON object"):
        read_meta(batch_of("a", metas=['["language"]']), "language")


def test_values_of_meta_are_spelt_as_json():
    fields = {"t": pa.array(['"\\\n', None, "é"]), "p": pa.array([0.5, None, 1e-7])}
    said = with_meta(batch_of("a", "b", "c", metas=[None, '{"n": 1}', "{ }"]), fields)
    assert [json.loads(meta) for meta in said["meta"].to_pylist()] == [{"t": '"\\\n', "p": 0.5}, {"n": 1}, {"t": "é", "p": 1e-7}]
    assert said["meta"][1].as_py() == '{"n": 1}'


def routed(filters, texts=(" “x” ", "“y” ", "z"), languages=("de", "en", "de")):
    return Only(language=("de",), filters=filters)(batch_of(*texts, metas=[json.dumps({"language": code}) for code in languages]))


def test_only_documents_of_the_language_are_filtered():
    verdicts = routed((WhiteSpace(), Punctuation()))
    assert verdicts.batch["text"].to_pylist() == [' "x"', "“y” ", "z"]
    assert verdicts.reasons.to_pylist() == ["white space; punctuation", None, None]


def test_drops_keep_value_threshold_and_measure_and_what_is_dropped_is_not_judged_again():
    verdicts = routed((Length(min_chars=2), WhiteSpace()))
    assert [(r["id"], r["reason"], r["value"], r["threshold"]) for r in verdicts.table("f").to_pylist()] == [
        ("d0", "white space", None, None), ("d2", "chars below 2", 1.0, 2.0),
    ]  # fmt: skip
    (measure,) = verdicts.measures
    assert (measure.name, measure.values.to_pylist(), measure.low) == ("Length_chars", [3.0, None, 1.0], 2)


def test_conversations_are_routed_too():
    talk = [{"role": "user", "content": "a "}, {"role": "assistant", "content": "b"}]
    batch = to_batch([conversation("d", "s", talk, '{"language": "de"}'), Document("e", "x ", "s")])
    after = Only(language=("de",), filters=(WhiteSpace(),))(batch).batch
    assert after["text"].to_pylist() == ["a\n\nb", "x "]
    assert after["messages"][0].as_py()[0]["content"] == "a"


def test_only_is_opened_with_its_filters():
    assert Only(language=("de",), filters=(WhiteSpace(),)).open(lambda stage: None)(batch_of("x ")).reasons.to_pylist() == [None]


def test_filters_that_look_at_the_whole_corpus_do_not_go_inside():
    with pytest.raises(ConfigError, match="has ExactDuplicates, which judges documents beside all others"):
        Only(language=("de",), filters=(ExactDuplicates(),))


@pytest.mark.real
def test_the_largest_languages_are_told_right(real_data):
    right = total = 0
    for code in ("en", "zh", "hi", "es", "ar", "fr", "bn", "pt", "ru", "ur", "id", "de", "ja", "mr", "te", "tr", "ta", "vi", "ko", "fa"):
        lines = (real_data / f"A_text/lingua_testdata_75lang/sentences/{code}.txt").read_text("utf-8").splitlines()
        found = identify(pa.array([line for line in lines if len(line) >= 50]))[0].to_pylist()
        right, total = right + found.count(code), total + len(found)
    assert right / total >= 0.98
