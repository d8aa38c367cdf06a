"""Answers questions from the facts alone: an independent reading of what a fact means, sharing no code with the generator."""

import re

PERSON = "([A-Z][a-z]+ [A-Z][a-z]+)"
RULES = (
    (r"(?:Where is|Where did) (.+?) (?:now|end up)\?", lambda facts, who: whereabouts(facts, who)),
    (r"(?:Where was|Where did) (.+?) (?:at first|start)\?", lambda facts, who: first(facts, who, "is")),
    (r"Who (?:has|holds) the (.+?) now\?", lambda facts, thing: holder(facts, thing)),
    (r"What does (.+?) (?:have|hold) now\?", lambda facts, who: only(f"the {thing}" for thing in things(facts) if holder(facts, thing) == who)),
    (r"Who gave the (\w+) away\?", lambda facts, thing: last(facts, thing, "given by")),
    (r"Who gave the (\w+) to PERSON\?", lambda facts, thing, to: gave(facts, thing=thing, to=to)[1]),
    (r"Who was given the (\w+)\?", lambda facts, thing: last(facts, thing, "given to")),
    (r"Who got the (\w+) from PERSON\?", lambda facts, thing, who: gave(facts, thing=thing, who=who)[2]),
    (r"What did PERSON give to PERSON\?", lambda facts, who, to: f"the {gave(facts, who=who, to=to)[0]}"),
    (r"What did PERSON get from PERSON\?", lambda facts, to, who: f"the {gave(facts, who=who, to=to)[0]}"),
    (r"How (?:does|is) PERSON (?:feel|feeling)\?", lambda facts, who: last(facts, who, "feels")),
    (r"Why (?:is|does) PERSON (?:feel )?(\w+)\?", lambda facts, who, mood: reason(facts, who, mood)),
    (r"(?:What|Of what) colour is the (\w+)\?", lambda facts, thing: last(facts, thing, "colour")),
    (r"(?:Who|What) is PERSON\?", lambda facts, who: f"the {last(facts, who, 'works as')}"),
    (r"Who (?:is|does the work of) the (\w+)\?", lambda facts, role: only(f.subject for f in facts if f[2:] == ("works as", role))),
)


def answer(question, facts):
    """The answer to a question, or a failure if the facts do not settle it."""
    found = [rule(facts, *match.groups()) for pattern, rule in RULES if (match := re.fullmatch(pattern.replace("PERSON", PERSON), question))]
    return only(found)


def only(values):
    values = list(values)
    assert len(values) == 1, values
    return values[0]


def of(facts, subject, *relations):
    return [fact for fact in sorted(facts, key=lambda fact: fact.step) if fact.subject == subject and fact.relation in relations]


def first(facts, subject, relation):
    return of(facts, subject, relation)[0].value


def last(facts, subject, relation):
    return of(facts, subject, relation)[-1].value


def things(facts):
    return [fact.subject for fact in facts if fact.relation == "colour"]


def holder(facts, thing):
    latest = of(facts, thing, "held by", "lies")[-1]
    return latest.value if latest.relation == "held by" else None


def whereabouts(facts, what):
    if not what.startswith("the "):
        return last(facts, what, "is")
    thing = what.removeprefix("the ")
    return last(facts, holder(facts, thing), "is") if holder(facts, thing) else last(facts, thing, "lies")


def gave(facts, thing=None, who=None, to=None):
    gifts = {(t, last(facts, t, "given by"), last(facts, t, "given to")) for t in things(facts) if of(facts, t, "given by")}
    return only(gift for gift in gifts if thing in (None, gift[0]) and who in (None, gift[1]) and to in (None, gift[2]))


def reason(facts, who, mood):
    steps = [fact.step for fact in of(facts, who, "feels") if fact.value == mood]
    return only(fact.value for fact in of(facts, who, "because") if fact.step == only(steps))
