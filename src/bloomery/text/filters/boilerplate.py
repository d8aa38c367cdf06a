"""`Boilerplate`: takes the lines that web pages put around their texts out of texts."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from bloomery.text.filters.filter import Filter, Verdicts
from bloomery.text.filters.rewriting import substitute, where

_PLACES = (
    "home|start|startseite|accueil|inicio|about|about us|über uns|à propos|contact|contact us|kontakt|impressum|imprint|datenschutz|blog|"
    "news|stories|articles|archives?|categories|forums?|faq|help|support|search|site ?map|log ?in|sign ?in|sign ?up|log ?out|register|"
    "my account|subscribe|newsletter|rss|shop|store|cart|checkout|careers|jobs|press|advertise|terms(?: of (?:use|service))?|"
    "privacy(?: policy)?|cookies?|cookie (?:policy|settings|preferences)|legal(?: notice)?|disclaimer|accessibility|menu|top|back|next|"
    "previous|print|share|twitter|facebook|instagram|linkedin|youtube|pinterest|whatsapp|e-?mail"
)
_BETWEEN = "[ \\t]*[|·•»›>/→][ \\t]*"

RULES = (
    # navigation: places of a site with bars or arrows between, or one by itself with what opens and closes it
    f"(?:[^|·•»›>/→\\n]{{1,40}}{_BETWEEN}){{0,12}}(?:{_PLACES})(?:{_BETWEEN}[^|·•»›>/→\\n]{{1,40}}){{2,12}}",
    f"(?:[^|·•»›>/→\\n]{{1,40}}{_BETWEEN}){{2,12}}(?:{_PLACES})",
    "(?:skip|jump) to (?:the )?(?:main |page )?(?:content|navigation|menu|search|footer)|zum inhalt springen|aller au contenu(?: principal)?",
    "you are here ?:.{0,200}|(?:back|return|go) to (?:the )?(?:top|home ?page|index)(?: of (?:the )?page)?",
    # accounts, sharing, following
    "(?:please )?(?:sign|log) ?in (?:or|to|with)\\b.{0,80}|(?:please )?register (?:or|to (?:read|continue|comment|post))\\b.{0,80}",
    "share (?:this|on|via)\\b(?: (?:story|article|post|page|entry|link|with|to|on|via|by|and))*[^.!?\\n]{0,50}",
    "(?:follow|like|find) us (?:on|at|@) .{0,100}|(?:print|email|e-mail|tweet|bookmark) this(?: (?:page|article|story|post))?",
    "(?:subscribe|sign up) (?:to|for|now|today)\\b.{0,60}(?:newsletters?|updates|e-?mails?|mailing list|feed|inbox)\\b.{0,60}",
    # rights, cookies, terms
    ".{0,160}\\b(?:all rights reserved|alle rechte vorbehalten|tous droits réservés|todos los derechos reservados|todos os direitos reservados|"
    "tutti i diritti riservati|alle rechten voorbehouden)\\b.{0,120}",
    "(?:copyright )?(?:©|\\(c\\)) ?(?:copyright )?(?:19|20)\\d\\d\\b.{0,120}",
    ".{0,80}\\b(?:uses?|using|accept|wir verwenden|nous utilisons(?: des)?|utilizamos|utilizziamo(?: i)?|wij gebruiken) (?:all |our )?"
    "cookies\\b.{0,200}",
    "(?:terms (?:of|and) (?:use|service|conditions)|privacy policy|cookie (?:policy|settings|preferences)|accept all cookies\\??|disclaimer)",
    # around an article
    "(?:posted|filed|tagged|published) (?:in|under|by|on)\\b:? .{1,60}(?:leave a (?:comment|reply)|comments?|permalink)\\b.{0,60}",
    "(?:leave|post|add|write) a (?:comment|reply)(?: below)?[.!]?|\\d{0,6} ?(?:comments?|replies|shares|likes|views)|no comments(?: yet)?",
    "click here (?:to|for) .{1,100}|(?:read|see|show|load|view|learn) (?:more|all)(?: ?(?:[:»›>…→]|\\.{3}).{0,160})?[.!]?",
    "(?:related|recommended|trending|don'?t miss|see also|also read|more from|you (?:may|might) also like|most (?:read|popular|viewed))"
    "(?: (?:articles?|stories|posts|content|topics|links|for you|now|news))? ?(?:[:»›>].{0,160})?",
    "(?:advertisements?|sponsored(?: content| links)?|continue reading(?: below| the main story)?|scroll (?:down )?(?:for|to continue).{0,60}|"
    "story continues below(?: advertisement)?|article continues (?:below|after).{0,40}|loading(?:\\.{3}|…)?)",
)  # fmt: skip
"""What a whole line of boilerplate is, one alternative after the other (RE2, either case)."""

LINE = f"(?im)^[ \\t]*(?:{'|'.join(f'(?:{rule})' for rule in RULES)})[ \\t\\r]*(?:\n|\\z)"
LOOSE = re.sub(r"\{[1-9],\d+\}", "+", re.sub(r"\{0,\d+\}", "*", LINE))
"""Matches wherever `LINE` does and now and then elsewhere; RE2 reads it forty times as fast, since it need not count."""


class Boilerplate(Filter):
    """Removes lines of navigation, headers and footers, notices of rights and cookies, calls to share, subscribe or read on.

    A line goes when the whole of it is such a thing. Documents with nothing else in them are dropped. Conversations are left as they are.

    Source: the kinds of boilerplate follow Kohlschütter et al. (2010), doi:10.1145/1718487.1718542, and C4 (Raffel et al. 2019,
    arXiv:1910.10683, section 2.2); departures: lines are told by their words, not by links and lengths, which plain text does not have.
    """

    def __call__(self, batch: pa.RecordBatch) -> Verdicts:
        before = batch.column("text")
        text = where(batch.column("messages").is_null(), before, without_boilerplate)
        after = batch.set_column(batch.schema.get_field_index("text"), batch.schema.field("text"), text)
        verdicts = Verdicts.rewrite(batch, after, "boilerplate")
        emptied = pc.and_(pc.is_valid(verdicts.reasons), pc.equal(pc.binary_length(pc.utf8_trim_whitespace(text)), 0))
        if not pc.any(emptied).as_py():
            return verdicts
        reasons = pc.if_else(emptied, "nothing but boilerplate", verdicts.reasons)
        return Verdicts(batch=after, reasons=reasons, dropped=emptied)


def without_boilerplate(text: pa.Array) -> pa.Array:
    """The texts without their lines of boilerplate, and without the blank lines that would be left at both ends."""
    return where(pc.match_substring_regex(text, LOOSE), text, lambda t: where(pc.match_substring_regex(t, LINE), t, _stripped))


def _stripped(text: pa.Array) -> pa.Array:
    text = pc.replace_substring_regex(text, LINE, "")
    text = substitute("^(?:[ \\t]*\n)+", "")(text)
    text = substitute("\\s+\\z", "")(text)
    return substitute("\n{4,}", "\n\n")(text)
