"""The book: the same for everyone, open at any page, its splits disjoint and its answers true."""

import re
import subprocess
import sys
from itertools import islice, pairwise

import pytest

from bloomery.core.errors import ConfigError
from bloomery.text.tales import KINDS, MAX_QUESTIONS, Tales
from bloomery.text.tales.lexicon import FIRST, LAST, LEXICONS, names, pair_is_held_out

from .checker import answer

SAMPLE = 300

BOOKS = {split: list(Tales(split=split).tales(SAMPLE)) for split in ("train", "held_out")}
SMALL = list(Tales(size="small").tales(SAMPLE // 3))
EVERY = [tale for book in BOOKS.values() for tale in book] + SMALL


def test_same_tale_in_another_process():
    program = "from bloomery.text.tales import Tales; t = Tales(seed=3, domain='harbour').tale(41); print(t.text, t.questions, t.worse)"
    there = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    tale = Tales(seed=3, domain="harbour").tale(41)
    assert there == [f"{tale.text} {tale.questions} {tale.worse}\n"] * 2


def test_a_known_page_has_not_changed():
    """A golden page: whoever changes the generator changes every corpus made with it, and should mean to."""
    assert Tales(seed=0).tale(0).text.startswith(
        "On a dusty evening in the cellar stood the blacksmith Faye Elm, who had a purple blanket."
    )


def test_random_access_equals_iteration():
    book = Tales(seed=5)
    assert list(islice(book.tales(), 20)) == [book.tale(index) for index in range(20)] == [*book.tales(12), *book.tales(8, start=12)]
    assert book.tale(7) == Tales(seed=5).tale(7)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"split": "held_out"}, {"domain": "farm"}, {"size": "short"}])
def test_each_field_opens_another_book(changes):
    book, other = Tales(), Tales().replace(**changes)
    assert not {tale.text for tale in book.tales(50)} & {tale.text for tale in other.tales(50)}
    assert not {tale.id for tale in book.tales(50)} & {tale.id for tale in other.tales(50)}


def test_a_misspelt_domain_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"Tales\.domain='barn'"):
        Tales(domain="barn")


def test_texts_do_not_repeat():
    assert len({tale.text for tale in EVERY}) == len(EVERY) == 2 * SAMPLE + SAMPLE // 3


def test_stories_are_short():
    lengths = [len(tale.text.split()) for book in BOOKS.values() for tale in book]
    assert sum(len(tale.text.split()) for tale in SMALL) / len(SMALL) < 0.8 * sum(lengths) / len(lengths)
    assert 70 <= sum(lengths) / len(lengths) <= 165
    assert min(lengths) >= 45
    assert max(lengths) <= 230


def test_names_are_disjoint_and_made_of_the_same_pieces():
    train, held_out = set(names("train")), set(names("held_out"))
    assert len(train) == len(names("train")) == 4 * len(held_out)
    assert not train & held_out
    for split, book in BOOKS.items():
        used = {fact.subject for tale in book for fact in tale.facts if fact.relation == "works as"}
        assert used <= set(names(split))
    for pieces in (FIRST, LAST):
        assert all(sum(piece in name for name in train) >= 20 for piece in pieces)
    assert held_out <= {f"{first} {last}" for first in FIRST for last in LAST}


def test_no_two_people_of_a_story_share_a_name():
    for tale in EVERY:
        people = {fact.subject for fact in tale.facts if fact.relation == "works as"}
        pairs = [next((first, last) for first in FIRST for last in LAST if name == f"{first} {last}") for name in people]
        assert all(len(set(column)) == len(people) in (1, 2, 3) for column in zip(*pairs, strict=True))


def things_in_places(tale):
    lexicon = LEXICONS[tale.domain]
    places = [place.at for place in lexicon.places]
    things = {lexicon.things.index(fact.subject) for fact in tale.facts if fact.relation == "colour"}
    return {(thing, places.index(fact.value)) for thing in things for fact in tale.facts if fact.relation in ("is", "lies")}


def test_held_out_worlds_put_things_where_training_never_does():
    for split, book in BOOKS.items():
        assert {pair_is_held_out(*pair) for tale in book for pair in things_in_places(tale)} == {split == "held_out"}


def test_every_thing_and_place_is_seen_in_training():
    pairs = {(tale.domain, *pair) for tale in Tales().tales(2000) for pair in things_in_places(tale)}
    for domain, lexicon in LEXICONS.items():
        assert {thing for where, thing, _ in pairs if where == domain} == set(range(len(lexicon.things)))
        assert {place for where, _, place in pairs if where == domain} == set(range(len(lexicon.places)))


def test_domains_have_their_own_words():
    farm, harbour = LEXICONS["farm"], LEXICONS["harbour"]
    for sort in ("things", "roles", "good_causes", "bad_causes", "weather"):
        assert not set(getattr(farm, sort)) & set(getattr(harbour, sort))
    assert not {place.the for place in farm.places} & {place.the for place in harbour.places}
    text = " ".join(tale.text for tale in Tales(domain="farm").tales(200))
    assert not [thing for thing in harbour.things if f"the {thing} " in text or f"the {thing}." in text]


def test_answers_follow_from_the_facts():
    """`checker` reads the wording of a question and works the answer out from the facts alone."""
    asked = 0
    for tale in EVERY:
        for question in tale.questions:
            right = answer(question.text, tale.facts)
            assert question.answer.endswith(f" {right}"), (question, tale.text)
            said = question.answer.removesuffix(right)
            others = {f.value for f in tale.facts} | {f.subject for f in tale.facts}
            named = {word for word in others if re.search(rf"\b{re.escape(word)}\b", said, re.IGNORECASE)}
            assert all(re.search(rf"\b{re.escape(word)}\b", question.text, re.IGNORECASE) for word in named), "the answer gives away more"
            asked += 1
    assert asked > 5 * len(EVERY)


def test_values_of_all_facts_are_told():
    for tale in EVERY:
        for fact in tale.facts:
            value = fact.value.split(" ", 1)[1] if fact.relation in ("is", "lies", "because") else fact.value
            assert value.lower() in tale.text.lower(), (fact, tale.text)
            assert fact.subject in tale.text


def test_all_kinds_are_asked_and_none_dominates():
    questions = [question for tale in EVERY for question in tale.questions]
    shares = {kind: sum(question.kind == kind for question in questions) / len(questions) for kind in KINDS}
    assert min(shares.values()) > 0.01
    assert max(shares.values()) < 0.15
    assert max(len(tale.questions) for tale in EVERY) == MAX_QUESTIONS


def test_the_story_has_not_already_asked_and_answered_the_question():
    for tale in EVERY:
        for question in tale.questions:
            assert question.text not in tale.text

    assert max(len(question.value.split()) for tale in EVERY for question in tale.questions) <= 5
    assert max(len(question.answer.split()) for tale in EVERY for question in tale.questions) <= 12
def test_answers_are_short():
    assert max(len(question.value.split()) for tale in EVERY for question in tale.questions) <= 5
    assert max(len(question.answer.split()) for tale in EVERY for question in tale.questions) <= 12


def test_pronouns_never_stand_for_two():
    """Every "she" or "he" follows a sentence that names exactly one person, or another pronoun."""
    for tale in EVERY:
        people = [fact.subject for fact in tale.facts if fact.relation == "works as"]
        sentences = re.split(r"(?<=[.?]) ", tale.text)
        for before, sentence in pairwise(sentences):
            if re.search(r"\b([Ss]he|[Hh]e)\b", sentence):
                named = [name for name in people if name in before]
                assert len(named) == 1 or (not named and re.search(r"\b([Ss]he|[Hh]e)\b", before)), (before, sentence)


def test_one_continuation_is_true_and_the_other_is_not():
    for tale in EVERY:
        kind, about, right, wrong = re.fullmatch(r"(\w+) of ([^:]+): (.+), not (.+)", tale.reason).groups()
        question = {
            "where_person": "Where is {} now?", "where_thing": "Where is {} now?", "where_carried": "Where is {} now?",
            "who_has": "Who has {} now?", "holding": "What does {} have now?", "feeling": "How does {} feel?", "colour": "What colour is {}?",
            "giver": "Who gave {} away?", "receiver": "Who was given {}?", "work": "Who is {}?",
            "reason": f"Why is {{}} {''.join(fact.value for fact in tale.facts if (fact.subject, fact.relation) == (about, 'feels'))}?",
        }[kind].format(about)  # fmt: skip
        assert answer(question, tale.facts) == right != wrong
        assert tale.better != tale.worse
        assert tale.better.replace(right, wrong) == tale.worse or tale.worse.replace(wrong, right) == tale.better
        assert right in tale.better
        assert wrong in tale.worse
