"""What counts as personal data and what does not; planted data is found, and clean tales stay as they are."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.text.documents import conversation, to_batch
from bloomery.text.filters import PersonalData
from bloomery.text.filters.personal_rules import luhn
from bloomery.text.tales import Tales
from bloomery.text.tales.dirt import Dirt
from tests.text.filters.naive import documents, measures_of

MASK = PersonalData()


def masked(text):
    return MASK(documents(text)).batch["text"][0].as_py()


@pytest.mark.parametrize(("kind", "text"), [
    ("email", "jo.doe+x@mail.example.co.uk"), ("email", "jo (at) example (dot) com"), ("email", "é.ü@exämple.org"),
    ("phone", "+44 7700 900123"), ("phone", "(555) 234-5678"),
    ("phone", "555-234-5678 x12"), ("phone", "+1-555-234-5678"), ("phone", "0049 30 1234567"),
    ("phone", "01 84 17 61 18"), ("phone", "+46 (0)8 928 571 38"), ("phone", "020 7946 0018"),
    ("ip_address", "192.0.2.17"), ("ip_address", "2001:db8::8a2e:370:7334"), ("ip_address", "6e40:4041:c617:e898:c11:40d2:c669:2eb4"),
    ("credit_card", "4111 1111 1111 1111"), ("credit_card", "378282246310005"), ("credit_card", "5555-5555-5555-4444"),
    ("iban", "GB82 WEST 1234 5698 7654 32"), ("iban", "DE89370400440532013000"), ("iban", "nl91abna0417164300"),
    ("national_id", "078-05-1120"), ("national_id", "AB 12 34 56 C"), ("national_id", "12345678Z"), ("national_id", "X1234567L"),
    ("national_id", "2 55 08 14 168 025 38"), ("national_id", "RSSMRA85T10A562S"),
    ("street_address", "17 Mill Lane"),
    ("street_address", "1600 Pennsylvania Avenue, Washington, DC 20500"), ("street_address", "29 rue de Tanger"),
    ("street_address", "Hauptstraße 12"), ("street_address", "Piazza Rezzonico 35"), ("street_address", "Calle de Alcalá 45"),
    ("street_address", "Kerkstraat 5"), ("street_address", "P.O. Box 211"),
    ("street_address", "20789 Allika 46\n Suite 501"), ("street_address", "3968 Bay St, Apt 4"),
])  # fmt: skip
def test_found_and_masked(kind, text):
    assert masked(f"It is {text}, he said.") == f"It is <{kind}>, he said."
    assert masked(text) == f"<{kind}>"


@pytest.mark.parametrize("text", [
    "In 1999 Wall Street crashed.", "from 1984-1985 and 1990 - 1994",
    "on 12/03/1999 or 2001-09-11", "version 10.4.3.21 of it", "section 1.2.3.4",
    "4111 1111 1111 1112", "GB82 WEST 1234 5698 7654 33", "000-12-3456", "12345678A",
    "std::vector::size", "at 12:30:45 on", "127.0.0.1", "1,234,567.89",
    "ISBN 0-306-40615-2", "$4,000,000 and £1 000 000", "0.25 0.50 0.75 1.00 1.25",
    "@property def x(self)", "a@b", "half past 10 in Mill Lane",
    "3.14159265358979", "the year 2000 problem", "100 000 000 people", "1 2 3 4 5 6 7 8 9 10",
])  # fmt: skip
def test_not_personal(text):
    assert masked(text) == text


@pytest.mark.parametrize(("before", "is_one"), [("Call me on ", True), ("The count was ", False)])
def test_a_plain_number_is_a_telephone_beside_a_word_that_says_so(before, is_one):
    assert (masked(f"{before}651 450 33 today") != f"{before}651 450 33 today") == is_one


def test_verdicts_name_what_was_masked_and_where():
    verdicts = MASK(documents("Mail é@b.org or x@c.org", "nothing"))
    assert verdicts.reasons.to_pylist() == ["personal data masked", None]
    assert verdicts.spans.to_pylist() == [[{"start": 5, "end": 12}, {"start": 16, "end": 23}], None]
    assert measures_of(verdicts)["email"] == 2


def test_dropping_shows_the_data_as_it_came():
    verdicts = PersonalData(action="drop", kinds=("phone", "email"))(documents("Mail é@b.org", "192.0.2.1"))
    assert verdicts.reasons.to_pylist() == ["email above 0", None]
    assert verdicts.spans.to_pylist() == [[{"start": 5, "end": 12}], None]


def test_conversations_are_masked_turn_by_turn():
    talk = [{"role": "user", "content": "I am é@b.org"}, {"role": "assistant", "content": "Hello."}]
    verdicts = MASK(to_batch([conversation("a", "s", talk), conversation("b", "s", talk[1:])]))
    assert verdicts.batch["text"].to_pylist() == ["I am <email>\n\nHello.", "Hello."]
    assert verdicts.batch["messages"].to_pylist() == [[{**talk[0], "content": "I am <email>"}, talk[1]], talk[1:]]
    assert verdicts.reasons.to_pylist() == ["personal data masked", None]


data = st.sampled_from([
    "a@b.org", "+15551234567", "192.0.2.1", "17 Mill Lane", "4111111111111111", "078-05-1120",
    "DE89370400440532013000", "call ", "12", " ", "-", ".", "x",
    "Apt 3", "(", ")", "\n", "+", "tel", "/", "<email>", "<", ">", "é",
])  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(data, max_size=12).map("".join))
def test_nothing_is_found_in_what_was_masked(text):
    verdicts = MASK(documents(text))
    assert verdicts.dropped[0].as_py() or MASK.find(verdicts.batch["text"][0].as_py()) == []


@given(st.integers(0, 10**15))
def test_luhn_catches_every_wrong_digit(number):
    body = f"{number}0"
    good = next(body[:-1] + str(d) for d in range(10) if luhn(body[:-1] + str(d)))
    assert not any(luhn(good[:i] + str((int(good[i]) + 1) % 10) + good[i + 1 :]) for i in range(len(good)))


def test_planted_personal_data_is_found_and_clean_tales_are_not_touched():
    found = planted = clean = touched = 0
    for document in Dirt(seed=3, personal_data=0.4).plant(Tales(), 600):
        spans = MASK.find(document.text)
        if document.label == "personal_data":
            truth = document.detail.spans[0]
            planted += 1
            found += any(start <= truth.start and truth.end <= end for start, end, _ in spans)
        elif document.label == "clean":
            clean += 1
            touched += bool(spans)
    assert planted > 100
    assert clean > 100
    assert found >= 0.95 * planted
    assert touched <= 0.01 * clean


@pytest.mark.real
def test_synthetic_records_per_kind(real_data):
    kinds = {
        "PHONE_NUMBER": "phone", "CREDIT_CARD": "credit_card", "EMAIL_ADDRESS": "email", "IP_ADDRESS": "ip_address", "IBAN_CODE": "iban",
        "US_SSN": "national_id",
    }  # fmt: skip
    gold, hit = dict.fromkeys(kinds.values(), 0), dict.fromkeys(kinds.values(), 0)
    for row in json.loads((real_data / "E_quality" / "presidio_pii" / "synth_dataset_v2.json").read_text(encoding="utf-8")):
        found = MASK.find(row["full_text"])
        for span in row["spans"]:
            if kind := kinds.get(span["entity_type"]):
                gold[kind] += 1
                hit[kind] += any(a < span["end_position"] and span["start_position"] < b and k == kind for a, b, k in found)
    assert all(hit[kind] >= 0.95 * gold[kind] > 0 for kind in gold), (hit, gold)
