"""Small English tables of our own: words that carry no topic, and words that can stand for each other."""

from __future__ import annotations

_STOP = (
    "a about above across after again against all almost along already also although always am among an and another any anybody anyone "
    "anything are around as at away back be became because become been before began behind being below between both but by came can "
    "cannot come could did do does doing done down during each either else even ever every few first for from further gave get give given "
    "go goes going gone got had has have having he her here hers herself him himself his how however i if in indeed into is it its itself "
    "just keep kept know last least less let like little long made make many may me might mine more most much must my myself near nearly "
    "neither never next no nobody none nor not nothing now of off often on once one only onto or other others our ours out over own per "
    "perhaps put quite rather really same saw say says second see seem seemed seems seen several shall she should since so some somebody "
    "someone something soon still such take taken than that the their theirs them themselves then there therefore these they thing things "
    "this those though three through thus till to together too took toward towards two under until up upon us use used using very via was "
    "way we well went were what when where whether which while who whole whom whose why will with within without would yes yet you your "
    "yours yourself said mr mrs"
)
STOP_WORDS = frozenset(_STOP.split())
"""Words between which key phrases stand."""

SYNONYMS = {
    word: tuple(other for other in group if other != word)
    for group in (
        ("write", "compose", "draft"), ("explain", "describe", "clarify"), ("list", "name", "give"), ("create", "make", "produce"),
        ("find", "identify"), ("question", "query"), ("following", "below"), ("summarize", "sum up"),
        ("short", "brief"), ("big", "large"), ("important", "significant"), ("help", "assist"), ("show", "demonstrate"), ("choose",
        "pick", "select"), ("begin", "start"), ("end", "finish"), ("quick", "fast"), ("easy", "simple"), ("hard", "difficult"),
        ("error", "mistake"), ("story", "tale"), ("job", "task"), ("buy", "purchase"), ("need", "require"),
        ("sentence", "phrase"), ("generate", "produce"), ("provide", "give", "supply"), ("compare", "contrast"), ("rewrite",
        "rephrase"), ("suggest", "propose"), ("translate", "render"), ("many", "numerous"), ("also", "too"), ("kind", "sort", "type"),
        ("whole", "entire"), ("about", "regarding"),
    )
    for word in group
}  # fmt: skip
"""Words of requests, and what may stand in their place."""

NEIGHBOURS: dict[str, str] = dict(zip("qwertyuiopasdfghjklzxcvbnm", (
    "wa", "qes", "wrd", "etf", "ryg", "tuh", "yij", "uok", "ipl", "o", "qsz", "adwx", "sfec", "dgrv", "fhtb", "gjyn", "hkum", "jli", "k",
    "xa", "zcs", "xvd", "cbf", "vng", "bmh", "nj",
), strict=True))  # fmt: skip
"""The keys beside each key of an English keyboard."""
