"""What personal data looks like: a pattern for each form, and the check that tells it from other numbers.

All patterns take time linear in the text, whatever it is: every quantifier has a bound or is possessive, and a match begins only where a run of
its characters does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["email", "credit_card", "iban", "national_id", "ip_address", "phone", "street_address"]


@dataclass(frozen=True)
class Rule:
    """One form of one kind.

    Attributes:
        kind: what it finds.
        hint: a pattern of RE2's for texts that are worth a look.
        pattern: what a datum looks like.
        end_of: where the datum in a match ends, or -1 if it is none; None takes matches as they are.
    """

    kind: Kind
    hint: str
    pattern: re.Pattern[str]
    end_of: Callable[[re.Match[str]], int] | None = None

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the data of a text are, in characters."""
        at = 0
        while match := self.pattern.search(text, at):
            end = match.end() if self.end_of is None else self.end_of(match)
            if end > match.start():
                yield match.start(), end
            at = max(match.start() + 1, end)  # behind what is none, another may begin inside it


def checked(valid: Callable[[re.Match[str]], bool]) -> Callable[[re.Match[str]], int]:
    """Takes a whole match or nothing."""
    return lambda match: match.end() if valid(match) else -1


def before(match: re.Match[str], size: int) -> str:
    """What stands before a match."""
    return match.string[max(0, match.start() - size) : match.start()]


def digits_of(text: str) -> str:
    """The ASCII digits of a text."""
    return "".join(c for c in text if "0" <= c <= "9")


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others: ISO/IEC 7812-1, annex B."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


ISSUERS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}|3(?:0[0-59]|[689]\d)\d{11}|"
    r"(?:6011|64[4-9]\d|65\d\d)\d{12,15}|35\d{14}|(?:2131|1800)\d{11}|62\d{14,17}|(?:50|5[6-9]|6[37])\d{10,17}"
)


def _card(match: re.Match[str]) -> bool:
    digits = digits_of(match[0])
    return ISSUERS.fullmatch(digits) is not None and luhn(digits) and len(set(digits)) > 1


IBAN_CHARS = {
    code: size for size, codes in {
        15: "NO", 16: "BE", 18: "DK FK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items() for code in codes.split()
}  # fmt: skip


def _iban(match: re.Match[str]) -> int:
    size = IBAN_CHARS.get(match[0][:2].upper(), 0)
    inked = [i for i, c in enumerate(match[0]) if c != " "]
    if not size or len(inked) < size:
        return -1
    end = match.start() + inked[size - 1] + 1
    account = "".join(match[0][i] for i in inked[:size]).upper()
    number = int("".join(str(int(c, 36)) for c in account[4:] + account[:4]))
    return end if number % 97 == 1 and not match.string[end : end + 1].isalnum() else -1


def _dni(match: re.Match[str]) -> bool:
    body = match[0].upper().replace("-", "")
    digits = body[:-1].translate(str.maketrans("XYZ", "012"))
    return len(digits) == 8 and "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == body[-1]


def _nir(match: re.Match[str]) -> bool:
    body = match[0].replace(" ", "").replace("2A", "19").replace("2B", "18")
    return len(body) == 15 and 97 - int(body[:13]) % 97 == int(body[13:])


def _ipv4(match: re.Match[str]) -> bool:
    octets = match[0].split(".")
    if any(int(o) > 255 or (len(o) > 1 and o[0] == "0") for o in octets) or octets[0] in ("0", "127", "255"):
        return False
    if VERSION.search(before(match, 16)):
        return False
    return any(len(o) > 1 for o in octets) or HOST.search(before(match, 24)) is not None  # "1.2.3.4" is a section as often as a host


VERSION = re.compile(r"(?i)(?:version|release|firmware|section|chapter|v|rev)[ .:]*$")
HOST = re.compile(r"(?i)\b(?:ip|address|host|server|from|dns|ping)\b")


def _ipv6(match: re.Match[str]) -> bool:
    groups = [g for g in match[0].split(":") if g]
    if len(groups) < 3 or not any(c.isdigit() for c in match[0]) or max(map(len, groups)) < 3:
        return False
    try:
        return not ipaddress.IPv6Address(match[0]).is_loopback
    except ValueError:
        return False


CUE = re.compile(
    r"(?i)\b(?:phones?|tel|telephone|telefon|telefoon|téléphone|teléfono|telefono|call(?:ed|ing)?|mobile|mobil|móvil|cell|fax|contact|ring|dial|text|sms|"
    r"whatsapp|hotline|reach(?:ed)?|answer(?:ing)?|messages?|numbers?|nummer|rufen|handy)\b"
)
CUE_BEHIND = re.compile(r"(?i)[ ,\-–(\\]{1,4}(?:office|fax|phone|mobile|cell|home|work)\b")
NORTH_AMERICAN = re.compile(r"(?:1[ .-]{1,3})?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}")
DATES = re.compile(r"(?:1[5-9]|20)\d\d[-–/. ]{1,3}(?:(?:1[5-9]|20)?\d\d|\d\d?[-/.]\d\d?)|\d\d?([-/. ])\d\d?\1(?:1[5-9]|20)\d\d|\d{8}")


def _phone(match: re.Match[str]) -> bool:
    number = match["number"]
    digits = digits_of(number)
    if not 7 <= len(digits) <= 15 or len(set(digits)) < 3:
        return False
    if number.startswith(("+", "(+")) or (digits.startswith("00") and digits[2:3] != "0"):
        return len(digits) >= 8
    if NORTH_AMERICAN.fullmatch(number):
        return True
    groups = re.findall(r"\d+", number)
    in_a_row = re.search(r"\d[ .\-–/]{1,2}$", before(match, 3)) or re.match(r"[ .\-–/]{1,2}\d", match.string[match.end() : match.end() + 3])
    if in_a_row or DATES.fullmatch(number):
        return False
    if number.startswith("(") and len(groups) > 1:
        return len(digits) <= 12
    trunk = re.match("0[1-9]", digits) and 9 <= len(digits) <= 12 and len(groups) > 1 and 1 < len(groups[0]) <= 5 and len(groups[-1]) > 1
    return bool(trunk) or (len(digits) <= 12 and bool(CUE.search(before(match, 40)) or CUE_BEHIND.match(match.string, match.end())))


PHONE = re.compile(
    r"(?<![\w@#$€£/=&])(?<!\d[.,:])(?P<number>(?:\+ ?|00(?=\d))?(?:\(\+?\d{1,5}+\)\d{0,12}+|\d{1,15}+)"
    r"(?:[ .\-–/\u00a0]{0,2}+\(\d{1,5}+\)\d{0,12}+|[ .\-–/\u00a0]{1,2}+\d{1,12}+){0,6}+"
    r"(?<=\d))(?: ?(?:x|ext\.?) ?\d{1,6})?+(?![\w@%$€£]|[.,]\d)"
)

STREETS = (
    "Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Row|Close|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Sq|Terrace|Way|Crescent|Parkway|Pkwy|Highway|"
    "Hwy|Circle|Alley|Gardens|Grove|Mews|Quay|Trail|Walk|Wharf"
)
FLAT = r"(?:,?\s{1,5}(?:Apt|Apartment|Suite|Unit|Floor|Flat|Room)\b\.?\s?#?\w{1,6}){0,2}"
STATE = r"(?:,?\s{1,5}[A-Z][\w'’-]{1,20}(?: [A-Z][\w'’-]{1,20}){0,2},?\s{1,5}[A-Z]{2}\s{1,5}\d{5}(?:-\d{4})?\b)?"
ENGLISH = re.compile(
    rf"(?<![\w.,$£€#/-])\d{{1,5}}[A-Za-z]?(?:[-/]\d{{1,4}})?,? (?:\d{{1,3}}(?:st|nd|rd|th) |[A-Z][\w'’.-]{{0,30}} ){{1,4}}"
    rf"(?:{STREETS})\b{FLAT}{STATE}"
)
PARTICLES = r"(?:(?:de|du|des|della|delle|del|dei|di|la|le|les|los|las|do|da|dos|der|den|van|St|San|Santa)\s|l['’]|d['’]|dell['’]){0,3}"
NAME = r"[^\W\d_][\w'’.-]{1,30}(?: [A-ZÀ-Þ][\w'’.-]{0,30}){0,3}"
RUES = "[Rr]ue|[Aa]venue|[Bb]oulevard|[Pp]lace|[Cc]hemin|[Aa]llée|[Qq]uai|[Ii]mpasse|[Cc]ours"
FRENCH = re.compile(rf"(?<![\w.,-])\d{{1,4}}(?: ?(?:bis|ter))?,? (?:{RUES}) {PARTICLES}{NAME}")
VIAS = r"Rue|Via|Viale|Vicolo|Piazza|Corso|Largo|Calle|C/|Avenida|Avda\.|Plaza|Paseo|Rua|Travessa"
ROMANCE = re.compile(rf"(?<!\w)(?:{VIAS}) {PARTICLES}{NAME},? (?:n[.º°] ?)?\d{{1,4}}(?!\w|[.,]\d)")
STRASSEN = r"straße|strasse|str\.|weg|platz|allee|gasse|damm|ufer|straat|laan|plein|gracht|gatan|vägen|gade|vej|katu|veien"
GERMANIC = re.compile(
    rf"(?<!\w)(?:[A-ZÄÖÜÅØ][\w-]{{2,30}} ){{0,2}}(?:[A-ZÄÖÜÅØ][\w-]{{1,30}}?(?:{STRASSEN})|(?:Straße|Strasse|Platz|Allee|Gasse|Weg|Str\.))"
    r" \d{1,4}(?: ?[a-z])?(?!\w|[.,]\d)"
)
UNIT = re.compile(  # whatever the street is called
    r"(?<![\w.,$£€#/-])\d{1,5},? (?:[\w'’.-]{1,30},?\s{1,6}){1,6}?(?i:apt\.|apartment|suite|flat) #?\d{1,5}[A-Za-z]?(?!\w)" + STATE
)
BOX = re.compile(r"(?<!\w)(?:P\. ?O\. ?|PO |Post Office |(?:PSC|Unit) \d{1,5},? )Box \d{1,6}(?!\w)(?:\s{1,3}[ADF]PO [A-Z]{2} \d{5})?")


def _english_street(match: re.Match[str]) -> bool:
    year = re.match(r"(?:1[5-9]|20)\d\d ", match[0])
    return not (year and re.search(r"(?i)\b(?:in|since|by|of|from|until|till|before|after|during|the|late|early|and|to) $", before(match, 8)))


NUMBER_HINT = r"\d(?:[ ().\-–/\x{a0}]{0,3}\d){6}"

RULES = (
    Rule("email", "@", re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}+@(?:[\w-]{1,63}+\.){1,8}[^\W\d_]{2,24}(?![\w-])")),
    Rule("email", r"[(\[]\s?at\s?[)\]]", re.compile(
        r"(?i)(?<![\w.+%-])[\w.+%-]{1,64}+\s?[(\[]\s?at\s?[)\]]\s?(?:[\w-]{1,63}+(?:\.|\s?[(\[]\s?dot\s?[)\]]\s?)){1,4}[^\W\d_]{2,24}(?![\w-])"
    )),
    Rule("iban", r"[A-Za-z]{2}\d{2} ?[A-Za-z0-9]{2}", re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}+"), _iban),
    Rule("credit_card", NUMBER_HINT, re.compile(
        r"(?<![\w.+-])(?:\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5}|\d{12,19})(?![\w-]|\.\d)"
    ), checked(_card)),
    Rule("national_id", NUMBER_HINT, re.compile(r"(?<![\w-])(?!000|666|9\d\d[ -][0-6])\d{3}([ -])(?!00)\d\d\1(?!0000)\d{4}(?![\w-])")),
    Rule("national_id", r"[A-Z]{2} ?\d\d ?\d\d ?\d\d ?[A-D]", re.compile(
        r"(?<!\w)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D](?!\w)"
    )),
    Rule("national_id", r"\d{7}-?[A-Z]", re.compile(r"(?<![\w-])[XYZ]?\d{7,8}-?[A-Z](?!\w)"), checked(_dni)),
    Rule("national_id", NUMBER_HINT, re.compile(r"(?<!\w)[12] ?\d\d ?[01]\d ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d(?!\w)"), checked(_nir)),
    Rule("national_id", r"[A-Z]{6}\d\d[A-Z]", re.compile(r"(?<!\w)[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z](?!\w)")),
    Rule("ip_address", r"\d\.\d{1,3}\.\d", re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"), checked(_ipv4)),
    Rule("ip_address", r"[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:", re.compile(
        r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"
    ), checked(_ipv6)),
    Rule("phone", NUMBER_HINT, PHONE, checked(_phone)),
    Rule("street_address", rf" (?:{STREETS})\b", ENGLISH, checked(_english_street)),
    Rule("street_address", rf"\d.{{0,5}} (?:{RUES}) ", FRENCH),
    Rule("street_address", rf"(?:{VIAS}) ", ROMANCE),
    Rule("street_address", rf"(?i:{STRASSEN}) \d", GERMANIC),
    Rule("street_address", r"(?i:apt\.|apartment|suite|flat) #?\d", UNIT),
    Rule("street_address", r"Box \d", BOX),
)  # fmt: skip
