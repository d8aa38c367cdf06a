"""`crawl`: pages of some sites, fetched politely into a web archive, which is a source like any other.

    pages.warc.gz       a record per page that was taken
    frontier.sqlite     every address that was seen, with what became of it; the crawl goes on from there
"""

from __future__ import annotations

import gzip
import os
import re
import sqlite3
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urljoin, urlsplit, urlunsplit

from annotated_types import Ge, Gt

from bloomery.core.config import Config
from bloomery.core.units import Bytes
from bloomery.text.readers.fetch import Answer, RefusedError, fetch
from bloomery.text.readers.robots import LONGEST, Robots
from bloomery.text.readers.web import charset_of, decoded_page

LONGEST_URL = 2000
REDIRECTS = 5
SEEN_PER_PAGE = 50  # addresses noted per page that may be taken: bounds the frontier where a site makes up links without end
NOT_KEPT = frozenset({"transfer-encoding", "content-length", "connection", "keep-alive", "set-cookie"})  # untrue of what is kept, or private
_LINK = re.compile(r"""<a\s[^<>]*?\bhref\s*=\s*(?:"([^"<>]*)"|'([^'<>]*)'|([^\s"'<>]+))""", re.IGNORECASE)
_BASE = re.compile(r"""<base\s[^<>]*?\bhref\s*=\s*["']?([^\s"'<>]+)""", re.IGNORECASE)
_ROBOTS_META = re.compile(r"""<meta\s[^<>]*?\bname\s*=\s*["']?robots\b[^<>]*""", re.IGNORECASE)


class Crawl(Config):
    """What to fetch, and how politely.

    Only the domains that are named are asked for anything, redirects included, and none of their addresses may be private unless that is
    allowed. Each site's robots.txt is obeyed; one that cannot be had (but is not missing) closes the site.

    Example:
        >>> crawl(Crawl(seeds=("https://example.org/",), max_pages=100), Path("crawled"))
        >>> Files(path="crawled", include=("*.warc.gz",))
    """

    seeds: tuple[str, ...]
    """Where to begin."""
    domains: tuple[str, ...] = ()
    """The hosts that may be asked, their subdomains included; empty means the seeds' own hosts."""
    max_pages: Annotated[int, Gt(0)] = 1000
    """Pages to take, at most."""
    max_bytes: Bytes = 1 << 30
    """Bytes of pages to take, about: the one that reaches it is the last."""
    max_page_bytes: Bytes = 4 << 20
    """What one page may have; longer ones are left."""
    max_depth: Annotated[int, Ge(0)] = 5
    """Links to follow from a seed, one after the other."""
    max_time_s: Annotated[float, Gt(0)] = 3600.0
    """How long one call of `crawl` may take, about; the next goes on."""
    delay_s: Annotated[float, Ge(0)] = 1.0
    """Seconds between two requests to one host, or more where its robots.txt asks for more."""
    timeout_s: Annotated[float, Gt(0)] = 20.0
    """How long one request may take."""
    content_types: tuple[str, ...] = ("text/html", "application/xhtml+xml")
    """What is taken; other answers are left unread."""
    agent: str = "bloomery/0.1"
    """What we call ourselves; the name before the slash is looked for in robots.txt. Add a way to reach you."""
    addresses: Literal["public", "any"] = "public"
    """"any" allows private and loopback addresses, for sites of your own."""

    def check(self) -> None:
        for seed in self.seeds:
            if urlsplit(seed).scheme not in ("http", "https") or not urlsplit(seed).hostname:
                raise self.refuse("seeds", f"has {seed!r}, which is no address of a page; write https://…")
        if not self.seeds:
            raise self.refuse("seeds", "is empty; give an address to begin at")

    def may_ask(self, url: str) -> bool:
        """Whether an address is one that this crawl may touch: of an allowed host, at a usual port or a seed's."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        hosts = self.domains or tuple(urlsplit(seed).hostname or "" for seed in self.seeds)
        ports = {None, 80, 443, *(urlsplit(seed).port for seed in self.seeds)}
        near = any(host == known.lower() or host.endswith("." + known.lower()) for known in hosts)
        return parts.scheme in ("http", "https") and near and parts.port in ports and "@" not in parts.netloc


@dataclass(frozen=True)
class Crawled:
    """What a crawl has come to, over all its calls.

    Attributes:
        pages, bytes: what was taken.
        left: reason → how many addresses were asked for, or not, and left.
        waiting: addresses not yet asked for.
    """

    pages: int
    bytes: int
    left: dict[str, int]
    waiting: int


def crawl(config: Crawl, folder: Path, sleep: Callable[[float], object] = time.sleep, clock: Callable[[], float] = time.monotonic) -> Crawled:
    """Fetches pages into `folder`, one after the other, until there are no more or a limit is reached; called again, it goes on.

    Args:
        config: what and how.
        folder: made if it is not there.
        sleep, clock: for tests.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frontier = _Frontier(folder / "frontier.sqlite", SEEN_PER_PAGE * config.max_pages)
    until = clock() + config.max_time_s
    due: dict[str, float] = {}
    robots: dict[str, Robots] = {}
    try:
        with _Archive(folder / "pages.warc.gz", frontier.length()) as archive:
            frontier.add([(normal(seed), 0) for seed in config.seeds])
            while clock() < until and (pages := frontier.pages())[0] < config.max_pages and pages[1] < config.max_bytes:
                url = frontier.next(due, clock(), sleep, until)
                if url is None:
                    break
                site = urlunsplit((*urlsplit(url.url)[:2], "", "", ""))
                try:
                    if site not in robots:
                        robots[site] = _robots(config, site)
                        due[url.host] = clock() + max(config.delay_s, robots[site].delay_s)
                        frontier.put_back(url)
                        continue
                    links = _take(config, url, robots[site], archive, frontier)
                    frontier.add([(link, url.depth + 1) for link in links] if url.depth < config.max_depth else [])
                except RefusedError as error:
                    frontier.leave(url, str(error))
                    if site not in robots:
                        robots[site] = Robots((("/", False),))
                due[url.host] = clock() + max(config.delay_s, robots[site].delay_s)
        return frontier.crawled()
    finally:
        frontier.close()


def _take(config: Crawl, url: _Address, robots: Robots, archive: _Archive, frontier: _Frontier) -> list[str]:
    """Fetches one page, writes it down, and gives its links; a redirect's target comes as a link of the same depth."""
    parts = urlsplit(url.url)
    if not config.may_ask(url.url):
        raise RefusedError("is not of an allowed domain")
    if not robots.allows((parts.path or "/") + (f"?{parts.query}" if parts.query else "")):
        raise RefusedError("is closed by robots.txt")
    answer = fetch(
        url.url, agent=config.agent, limit=config.max_page_bytes, timeout_s=config.timeout_s, addresses=config.addresses,
        content_types=config.content_types,
    )  # fmt: skip
    if answer.status in (301, 302, 303, 307, 308):
        target = joined(url.url, answer.header("Location"))
        if url.hops >= REDIRECTS:
            raise RefusedError("is redirected too often")
        if target is not None and config.may_ask(target):
            frontier.add([(target, url.depth)], url.hops + 1)
        raise RefusedError("is a redirect")
    if answer.status != 200:
        raise RefusedError(f"has status {answer.status}")
    text, _ = decoded_page(answer.body, charset_of(answer.header("Content-Type")))
    asked = " ".join([answer.header("X-Robots-Tag"), *(found[0] for found in _ROBOTS_META.finditer(text))]).lower()
    links = [] if "nofollow" in asked or re.search(r"\bnone\b", asked) else list(_links(text, url.url))
    if "noindex" in asked or re.search(r"\bnone\b", asked):
        frontier.leave(url, "asks not to be taken")
    else:
        length = archive.write(url.url, answer)
        frontier.taken(url, len(answer.body), length)
    return [link for link in links if config.may_ask(link)]


def _robots(config: Crawl, site: str) -> Robots:
    url = f"{site}/robots.txt"
    for _ in range(REDIRECTS + 1):
        if not config.may_ask(url):
            raise RefusedError("is not of an allowed domain")
        answer = fetch(url, agent=config.agent, limit=LONGEST, timeout_s=config.timeout_s, addresses=config.addresses)
        if answer.status in (301, 302, 303, 307, 308):
            url = joined(url, answer.header("Location")) or ""
            continue
        if answer.status == 200:
            return Robots.parse(answer.body.decode("utf-8", "replace"), config.agent.partition("/")[0].strip())
        if 400 <= answer.status < 500 and answer.status != 429:
            return Robots()
        raise RefusedError(f"has a robots.txt of status {answer.status}")
    raise RefusedError("has a robots.txt that is redirected too often")


def _links(text: str, url: str) -> Iterator[str]:
    base = joined(url, found[1]) if (found := _BASE.search(text)) else url
    for match in _LINK.finditer(text):
        tag = match[0].lower()
        link = joined(base, (match[1] or match[2] or match[3] or "").strip().replace("&amp;", "&"))
        if link is not None and "nofollow" not in tag:
            yield link


def joined(base: str | None, link: str) -> str | None:
    """Where a link leads from a page; None if nowhere."""
    try:
        return normal(urljoin(base or "", link))
    except ValueError:
        return None


def normal(url: str) -> str | None:
    """One spelling of an address, without its fragment; None if it is not one of a page."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host or len(url) > LONGEST_URL or any(ord(c) < 33 for c in url):
        return None
    usual = port is None or port == (443 if parts.scheme == "https" else 80)
    ascii_path = re.sub(r"[^\x21-\x7e]", lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode("utf-8", "replace")), parts.path or "/")
    ascii_query = re.sub(r"[^\x21-\x7e]", lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode("utf-8", "replace")), parts.query)
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, host if usual else f"{host}:{port}", ascii_path, ascii_query, ""))


@dataclass(frozen=True)
class _Address:
    url: str
    depth: int
    hops: int
    host: str


class _Frontier:
    """The addresses that were seen, on disk; those that wait, by host, in memory too."""

    def __init__(self, path: Path, most: int) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS seen (url TEXT PRIMARY KEY, depth INT, hops INT, state TEXT, bytes INT DEFAULT 0, length INT DEFAULT 0)"
        )
        self._room = most - self._db.execute("SELECT COUNT(*) FROM seen").fetchone()[0]
        self._pages: tuple[int, int] = self._db.execute("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM seen WHERE state = 'taken'").fetchone()
        self._hosts: dict[str, deque[_Address]] = {}
        for url, depth, hops in self._db.execute("SELECT url, depth, hops FROM seen WHERE state = 'waiting' ORDER BY rowid"):
            self._queue(url, depth, hops)

    def _queue(self, url: str, depth: int, hops: int) -> None:
        host = urlsplit(url).hostname or ""
        self._hosts.setdefault(host, deque()).append(_Address(url, depth, hops, host))

    def add(self, found: list[tuple[str | None, int]], hops: int = 0) -> None:
        """Notes addresses that were not seen before."""
        self._db.execute("BEGIN")
        for url, depth in found:
            if url is None or self._room <= 0:
                continue
            if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, 'waiting', 0, 0)", (url, depth, hops)).rowcount:
                self._room -= 1
                self._queue(url, depth, hops)
        self._db.execute("COMMIT")

    def next(self, due: dict[str, float], now: float, sleep: Callable[[float], object], until: float) -> _Address | None:
        """The next address of the host that has waited longest, after what is left of its delay; None if there is none, or no time."""
        waiting = [(due.get(host, 0.0), host) for host, queue in self._hosts.items() if queue]
        if not waiting:
            return None
        at, host = min(waiting)
        if at > until:
            return None
        if at > now:
            sleep(at - now)
        return self._hosts[host].popleft()

    def put_back(self, url: _Address) -> None:
        """Lets an address wait on, at the head of its host's."""
        self._hosts[url.host].appendleft(url)

    def leave(self, url: _Address, reason: str) -> None:
        """Notes that an address is not taken, and why."""
        self._db.execute("UPDATE seen SET state = ? WHERE url = ?", (reason, url.url))

    def taken(self, url: _Address, size: int, length: int) -> None:
        """Notes that a page is in the archive, which is so long now."""
        self._db.execute("UPDATE seen SET state = 'taken', bytes = ?, length = ? WHERE url = ?", (size, length, url.url))
        self._pages = (self._pages[0] + 1, self._pages[1] + size)

    def pages(self) -> tuple[int, int]:
        """How many pages were taken, and their bytes."""
        return self._pages

    def length(self) -> int:
        """How long the archive was when the last page was noted."""
        return self._db.execute("SELECT COALESCE(MAX(length), 0) FROM seen").fetchone()[0]

    def crawled(self) -> Crawled:
        """The sum of it all."""
        states = dict(self._db.execute("SELECT state, COUNT(*) FROM seen GROUP BY state ORDER BY state"))
        pages, size = self.pages()
        return Crawled(pages, size, {s: n for s, n in states.items() if s not in ("taken", "waiting")}, states.get("waiting", 0))

    def close(self) -> None:
        """Ends it."""
        self._db.close()


class _Archive:
    """A WARC file that grows by a compressed member per page."""

    def __init__(self, path: Path, length: int) -> None:
        self._file = open(path, "ab")  # noqa: SIM115 (closed by the context)
        self._file.truncate(length)  # what a crawl that was killed wrote and did not note

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, url: str, answer: Answer) -> int:
        """Adds a page; returns how long the archive is then. It is on the disk."""
        kept = [f"{name}: {value}" for name, value in answer.headers if name.lower() not in NOT_KEPT]
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *kept, f"Content-Length: {len(answer.body)}", "", ""]
        block = "\r\n".join(lines).encode("utf-8", "replace") + answer.body
        head = [
            "WARC/1.1", "WARC-Type: response", f"WARC-Record-ID: <urn:uuid:{uuid.uuid4()}>", f"WARC-Target-URI: {url}",
            f"WARC-Date: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", f"WARC-IP-Address: {answer.address}",
            "Content-Type: application/http; msgtype=response", f"Content-Length: {len(block)}",
        ]  # fmt: skip
        self._file.write(gzip.compress("\r\n".join([*head, "", ""]).encode() + block + b"\r\n\r\n"))
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

