"""What the book holds, counted and measured rather than claimed: names, combinations, bits of chance, and what guessing gets."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from bloomery.text.tales.lexicon import COLOURS, LEXICONS, MOODS, names, pair_is_held_out
from bloomery.text.tales.questions import Kind, Question
from bloomery.text.tales.tales import Tale, Tales

SORT_OF: dict[Kind, str] = {
    "where_person": "place", "where_first": "place", "where_thing": "place", "where_carried": "place", "who_has": "person",
    "worker": "person", "giver": "person", "receiver": "person", "holding": "thing", "gift": "thing", "colour": "colour",
    "work": "role", "feeling": "mood", "reason": "cause",
}  # fmt: skip
"""What sort of thing answers each kind of question."""

_SORT_OF_VALUE = {
    "is": "place", "lies": "place", "works as": "role", "colour": "colour", "feels": "mood", "because": "cause", "held by": "person",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Census:
    """Counts of one book and its held-out twin. Entropies are means over a sample, in bits per tale."""

    names: dict[str, int]
    """Names per split; none is in both."""
    pairs: dict[str, int]
    """Things in places that a tale of each split may speak of, both domains together."""
    vocabulary: dict[str, dict[str, int]]
    """Words of each sort, per domain."""
    world_bits: float
    """Chance spent on who, what, where and what happens: 2 to this power is the effective number of worlds."""
    telling_bits: float
    """Chance spent on the wording of a world."""
    least_bits: float
    """The fewest bits of any tale in the sample: no tale of it is likelier than 2 to minus this."""
    distinct: int
    """Different texts in the sample."""
    sample: int
    """Tales in the sample."""
    words: float
    """Words per tale."""
    questions: float
    """Questions per tale."""
    kinds: dict[str, float]
    """Each kind's share of the held-out questions."""
    prior: dict[str, float]
    """What always giving the kind's commonest training answer gets on held-out questions, per kind and in "all"."""
    mention: dict[str, float]
    """What naming the most-mentioned value of the right sort in the story gets: a bag of words that knows what is asked for."""

    def __str__(self) -> str:
        lines = [f"names: {self.names['train']} train, {self.names['held_out']} held out"]
        lines += [f"things in places: {self.pairs['train']} train, {self.pairs['held_out']} held out"]
        lines += [f"{domain}: " + ", ".join(f"{n} {sort}" for sort, n in sorts.items()) for domain, sorts in self.vocabulary.items()]
        lines += [
            f"entropy: {self.world_bits + self.telling_bits:.1f} bits per tale = {self.world_bits:.1f} world + {self.telling_bits:.1f} telling"
            f" (least {self.least_bits:.1f})",
            f"sample: {self.sample} tales, {self.distinct} distinct, {self.words:.1f} words and {self.questions:.2f} questions each",
            f"{'kind':<16}{'share':>8}{'prior':>8}{'mention':>9}   (what guessing gets on held-out questions)",
        ]
        lines += [
            f"{kind:<16}{share:>8.1%}{self.prior[kind]:>8.1%}{self.mention[kind]:>9.1%}" for kind, share in {**self.kinds, "all": 1.0}.items()
        ]
        return "\n".join(lines)


def census(book: Tales | None = None, sample: int = 1000) -> Census:
    """Counts a book and measures a sample of its tales and of its held-out twin's.

    Args:
        book: the training split to describe; `Tales()` if none is given.
        sample: tales of each split to measure.
    """
    train = (book or Tales()).replace(split="train")
    held_out = train.replace(split="held_out")
    tales, unseen = list(train.tales(sample)), list(held_out.tales(sample))
    bits = [train.bits(index) for index in range(sample)]
    kinds = Counter(question.kind for tale in unseen for question in tale.questions)
    return Census(
        names={"train": len(names("train")), "held_out": len(names("held_out"))},
        pairs=_pairs(),
        vocabulary={domain: _vocabulary(domain) for domain in LEXICONS},
        world_bits=sum(world for world, _ in bits) / sample,
        telling_bits=sum(telling for _, telling in bits) / sample,
        least_bits=min(world + telling for world, telling in bits),
        distinct=len({tale.text for tale in tales}),
        sample=sample,
        words=sum(len(tale.text.split()) for tale in tales) / sample,
        questions=kinds.total() / sample,
        kinds={kind: n / kinds.total() for kind, n in kinds.most_common()},
        prior=prior_baseline(tales, unseen),
        mention=mention_baseline(unseen),
    )


def prior_baseline(seen: Iterable[Tale], unseen: Iterable[Tale]) -> dict[str, float]:
    """The share of unseen questions answered by the commonest answer of their kind among the seen ones."""
    answers: dict[Kind, Counter[str]] = defaultdict(Counter)
    for tale in seen:
        for question in tale.questions:
            answers[question.kind][question.value] += 1
    best = {kind: counts.most_common(1)[0][0] for kind, counts in answers.items()}
    return _score((question.kind, best.get(question.kind) == question.value) for tale in unseen for question in tale.questions)


def mention_baseline(tales: Iterable[Tale]) -> dict[str, float]:
    """The share of questions answered by the value of the right sort that the story mentions most often, the latest among equals."""
    return _score((question.kind, _guess_is_right(tale, question)) for tale in tales for question in tale.questions)


def _guess_is_right(tale: Tale, question: Question) -> bool:
    guess = _most_mentioned(tale, SORT_OF[question.kind])
    return question.value.removeprefix("the ") == guess


def _most_mentioned(tale: Tale, sort: str) -> str:
    if sort == "thing":
        values = [fact.subject for fact in tale.facts if fact.relation == "colour"]
    elif sort == "person":
        values = [fact.subject for fact in tale.facts if fact.relation == "works as"]
    else:
        values = [fact.value for fact in tale.facts if _SORT_OF_VALUE.get(fact.relation) == sort]
    return max(values, key=lambda value: (tale.text.count(value), tale.text.rfind(value)))


def _score(results: Iterable[tuple[str, bool]]) -> dict[str, float]:
    right: dict[str, list[bool]] = defaultdict(list)
    for kind, correct in results:
        right[kind].append(correct)
        right["all"].append(correct)
    return {kind: sum(correct) / len(correct) for kind, correct in right.items()}


def _vocabulary(domain: str) -> dict[str, int]:
    lexicon = LEXICONS[domain]
    return {
        "places": len(lexicon.places), "things": len(lexicon.things), "roles": len(lexicon.roles),
        "causes": len(lexicon.good_causes) + len(lexicon.bad_causes), "colours": len(COLOURS), "moods": len(MOODS),
    }  # fmt: skip


def _pairs() -> dict[str, int]:
    pairs = Counter(
        "held_out" if pair_is_held_out(thing, place) else "train"
        for lexicon in LEXICONS.values()
        for thing in range(len(lexicon.things))
        for place in range(len(lexicon.places))
    )
    return dict(pairs)
