"""What came over the web, as text: HTTP messages unpacked, characters decoded; nothing in them is fatal.

Source: RFC 9112 (HTTP/1.1) for messages; the WHATWG's Encoding and HTML standards for charsets: a byte order mark goes before what the server
says, which goes before what the page says; departure: what is said nowhere and is not UTF-8 is guessed from the bytes.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import zstandard

from bloomery.core.units import human_bytes
from bloomery.text.documents import Document
from bloomery.text.readers.archives import Record
from bloomery.text.readers.reader import Damage

HTML = "text/html"
PAGES = (HTML, "application/xhtml+xml", "text/plain", "text/markdown")
"""The media types that are read where nothing else is said."""

UNTOLD = ("", "unk", "unknown", "no-type", "application/octet-stream", "application/x-unknown", "*/*")  # says nothing of a type
BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
LABELS = {  # what pages say and what they mean by it, where Python's codec of that name is narrower or is called otherwise
    "iso-8859-1": "cp1252", "latin1": "cp1252", "latin-1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252", "iso8859-1": "cp1252",
    "iso_8859-1": "cp1252", "iso-8859-9": "cp1254", "iso-8859-11": "cp874", "tis-620": "cp874", "gb2312": "gb18030", "gbk": "gb18030",
    "x-gbk": "gb18030", "gb_2312-80": "gb18030", "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "ksc5601": "cp949", "shift_jis": "cp932",
    "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "windows-31j": "cp932", "x-euc-jp": "euc_jp", "big5": "big5hkscs",
    "x-x-big5": "big5hkscs", "x-mac-roman": "mac_roman", "macintosh": "mac_roman", "unicode": "utf-16-le", "utf-16": "utf-16-le",
}  # fmt: skip
NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "utf-7", "undefined"}  # no page's, and some take n² time
SNIFFED = 4096  # bytes of a page in which it may say its charset, its type, and by which a charset is guessed

_META = re.compile(rb"""<(?:meta|\?xml)\s[^<>]*?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE)
_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html|head|body|title|h1|div|p|table|!--|meta|script)\b|\s*<!--", re.IGNORECASE)
_HEADER_END = re.compile(rb"\r?\n\r?\n")


def page(record: Record, name: str, limit: int, content_types: Sequence[str]) -> Document | Damage | None:
    """A record of an archive as a document; None if it is none of the types that are read.

    Its `meta` has url, date, content_type, charset and, of a response, status.

    Args:
        record: a response, a resource or a conversion.
        name: of the archive.
        limit: bytes that an unpacked body may have.
        content_types: the media types that are read.
    """
    fields, body, status = record.fields, record.content, None
    said = fields.get("content-type", "")
    try:
        if said.lower().startswith("application/http"):
            status, headers, body = message(body)
            said = headers.get("content-type", "") or fields.get("identified-type", "")
            if _plain_type(said) not in (*content_types, *UNTOLD):
                return None
            body = unpacked(body, headers, limit)
        if (kind := media_type(said, body)) not in content_types:
            return None
    except ValueError as error:
        return Damage(f"{name}#{record.place}", str(error), len(record.content))
    text, charset = decoded_page(body, charset_of(said))
    meta = {"url": fields.get("warc-target-uri", "").strip("<>"), "date": fields.get("warc-date"), "content_type": kind, "charset": charset}
    meta |= {} if status is None else {"status": status}
    return Document(f"{name}#{record.place}", text, name, None, json.dumps(meta, ensure_ascii=False))


def message(block: bytes) -> tuple[int | None, dict[str, str], bytes]:
    """An HTTP response taken apart: its status, its header (names in lower case), its body as it was sent."""
    if not block.startswith(b"HTTP/"):
        return None, {}, block
    end = _HEADER_END.search(block)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    first, *lines = head.decode("latin-1").splitlines() or [""]
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    code = first.split(" ")[1:2]
    return int(code[0]) if code and re.fullmatch("[0-9]{3}", code[0]) else None, headers, body


def unpacked(body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """A body without its transfer and content codings; as it is where it is not coded as it says (many crawlers store it decoded).

    Raises:
        ValueError: it cannot be unpacked, or is longer than the limit then; says why.
    """
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _dechunked(body)
    for coding in reversed([c.strip() for c in headers.get("content-encoding", "").lower().split(",")]):
        if coding in ("gzip", "x-gzip", "deflate", "zstd"):
            body = _inflated(body, coding, limit)
        elif coding == "br" and not _is_text(body):
            raise ValueError("its body is packed with brotli, which is not read")
    return body


def media_type(said: str, body: bytes) -> str:
    """The media type of a body, in lower case; looked for in its first bytes where nothing useful is said."""
    kind = _plain_type(said)
    if kind not in UNTOLD:
        return kind
    head = body[:SNIFFED]
    return HTML if _HTML.match(head) else "text/plain" if head and _is_text(head) else kind


def charset_of(content_type: str) -> str | None:
    """The charset that a Content-Type names, as a codec of Python's; None if it names none that is known."""
    named = re.search(r"""charset\s*=\s*["']?\s*([\w.:-]{1,40})""", content_type, re.IGNORECASE)
    return codec(named[1]) if named else None


def codec(label: str) -> str | None:
    """The codec for a charset's name on the web; None if there is none."""
    name = LABELS.get(label.lower(), label.lower())
    try:
        if codecs.lookup(name).name in NO_CHARSETS:
            return None
        b"".decode(name)  # refuses codecs that do not make text
    except (LookupError, ValueError):
        return None
    return name


def decoded_page(data: bytes, charset: str | None = None) -> tuple[str, str]:
    """A page as text, and the charset that it was in: by its byte order mark, as said, as it says, UTF-8, or as it looks; never an error.

    Args:
        data: the page.
        charset: what was said of it elsewhere, as a codec of Python's.
    """
    for mark, name in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace"), name
    head = data[:SNIFFED]
    declared = _META.search(head)
    inside = codec(declared[1].decode("ascii", "replace")) if declared else None
    if inside and inside.startswith("utf-16"):  # what says so in ASCII is not
        inside = "utf-8"
    for name in (charset, inside, "utf-8"):
        if name is not None:
            try:
                return data.decode(name), name
            except (UnicodeDecodeError, ValueError):
                continue
    name = charset or inside or _looks_like(data)
    return data.decode(name, "replace"), name


def _looks_like(data: bytes) -> str:
    """The charset that bytes are most likely in, by the stretch in which they are no longer ASCII."""
    from charset_normalizer import from_bytes

    first = next((m.start() for m in re.finditer(rb"[\x80-\xff]", data)), 0)
    best = from_bytes(data[max(0, first - 256) : first + SNIFFED], threshold=0.4, language_threshold=0.05).best()
    return (codec(best.encoding.replace("_", "-")) or "cp1252") if best else "cp1252"


def _plain_type(said: str) -> str:
    return said.split(";")[0].strip().lower()


def _is_text(data: bytes) -> bool:
    """Whether bytes are text of some kind: no NUL, hardly any control characters."""
    head = data[:SNIFFED]
    return sum(byte < 9 or 13 < byte < 32 for byte in head) <= len(head) // 100 and 0 not in head


def _dechunked(body: bytes) -> bytes:
    parts, at = [], 0
    while line := re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[^\r\n]{0,256}\r?\n").match(body, at):
        size = int(line[1], 16)
        if not size:
            break
        parts.append(body[line.end() : line.end() + size])
        at = line.end() + size
        at += 2 if body.startswith(b"\r\n", at) else body.startswith(b"\n", at)
    if not parts and at == 0 and not line:
        return body
    return b"".join(parts) if line or at >= len(body) else b"".join(parts) + body[at:]


def _inflated(body: bytes, coding: str, limit: int) -> bytes:
    """Unpacks a body; one that does not begin as if it were packed comes back as it is."""
    if coding == "zstd":
        if not body.startswith(b"\x28\xb5\x2f\xfd"):
            return body
        return _bounded(zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(), body, limit, 256)
    if body.startswith(b"\x1f\x8b"):
        return _bounded(zlib.decompressobj(31), body, limit, 4096)
    if coding == "deflate" and not _is_text(body):
        wrapped = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
        return _bounded(zlib.decompressobj(15 if wrapped else -15), body, limit, 4096)
    return body


def _bounded(decompressor: Any, body: bytes, limit: int, step: int) -> bytes:
    parts, size = [], 0
    for start in range(0, len(body), step):
        try:
            parts.append(decompressor.decompress(body[start : start + step]))
        except (zlib.error, zstandard.ZstdError) as error:
            raise ValueError(f"its body does not unpack ({error})") from None
        size += len(parts[-1])
        if size > limit:
            raise ValueError(f"its body expands beyond max_document_bytes={limit} ({human_bytes(limit)})")
        if decompressor.eof:
            return b"".join(parts)
    raise ValueError("its packed body is cut off")
