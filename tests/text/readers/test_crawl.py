"""A crawl of a site of our own, on this machine only: polite, bounded, and able to go on."""

import contextlib
import http.server
import json
import socket
import threading
import time

import pytest

from bloomery.core.errors import ConfigError
from bloomery.text.readers import Crawl, Files, crawl
from bloomery.text.readers.crawl import normal
from bloomery.text.readers.fetch import RefusedError, fetch
from bloomery.text.readers.robots import Robots

PAGES = {
    "/": '<a href="/a">a</a> <a class=x href=b.html#top>b</a> <a href="/closed/c">c</a> <a href="http://elsewhere.test/">e</a>'
    '<a href="/image">i</a><a href="/moved">m</a> <a href="/gone">g</a> <a href="/huge">h</a> <a rel=nofollow href="/shy">s</a>'
    '<a href="/quiet">q</a>'
    '<a href="/away">w</a> <a href="javascript:x()">j</a> <a href="http://[">bad</a>',
    "/a": '<a href="/">home</a> <a href="/deep?x=1&amp;y=2">d</a>', "/b.html": "<p>b", "/closed/c": "never", "/shy": "never",
    "/quiet": '<meta name="robots" content="noindex, nofollow"><a href="/never">n</a>', "/deep?x=1&y=2": '<a href="/deeper">d</a>',
    "/deeper": "too deep", "/huge": "x" * 5000, "/target": "moved here",
}  # fmt: skip


@pytest.fixture
def site():
    """A server on this machine; its `asked` are the paths that were asked for."""

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            body = self.server.robots.encode() if self.path == "/robots.txt" else PAGES.get(self.path, "").encode()
            status = self.server.robots_status if self.path == "/robots.txt" else 200 if self.path in (*PAGES, "/image") else 404
            goes = {"/moved": "/target", "/away": "http://elsewhere.test/x"}.get(self.path)
            self.send_response(302 if goes else status)
            self.send_header("Content-Type", "image/png" if self.path == "/image" else "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            if goes:
                self.send_header("Location", goes)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.asked, server.robots, server.robots_status = [], "User-agent: *\nDisallow: /closed/\n", 200
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def config(site, **fields):
    plain = {"seeds": (site.url,), "addresses": "any", "delay_s": 0.0, "max_page_bytes": 4000, "max_depth": 2}
    return Crawl(**{**plain, **fields})


def urls(folder):
    rows = [row for batch in Files(path=str(folder), include=("*.warc.gz",)).batches() for row in batch.to_pylist()]
    return {json.loads(row["meta"])["url"].partition("/")[2].partition("/")[2]: row["text"] for row in rows}


def test_a_crawl_takes_what_it_may_and_says_why_it_left_the_rest(site, tmp_path):
    done = crawl(config(site), tmp_path)
    root = f"127.0.0.1:{site.server_port}"
    assert urls(tmp_path) == {f"{root}{path}": PAGES[path] for path in ("/", "/a", "/b.html", "/target", "/deep?x=1&y=2")}
    assert done.pages == 5
    assert done.waiting == 0
    assert done.left == {
        "asks not to be taken": 1, "has status 404": 1, "is a redirect": 2, "is closed by robots.txt": 1, "is image/png, which is not read": 1,
        "is longer than 4000 bytes": 1,
    }  # fmt: skip
    assert not {"/closed/c", "/shy", "/never", "/deeper"} & set(site.asked)
    assert len(site.asked) == len(set(site.asked))


def test_a_crawl_goes_on_where_it_was_stopped_or_killed(site, tmp_path):
    crawl(config(site), tmp_path / "whole")
    site.asked.clear()
    for pages in (1, 2, 4):
        assert crawl(config(site, max_pages=pages), tmp_path / "parts").pages == pages
        with open(tmp_path / "parts" / "pages.warc.gz", "ab") as file:
            file.write(b"half a record that was not noted")
    assert crawl(config(site), tmp_path / "parts").waiting == 0
    assert urls(tmp_path / "parts") == urls(tmp_path / "whole")
    pages = [path for path in site.asked if path != "/robots.txt"]
    assert len(pages) == len(set(pages))


def test_requests_to_a_host_keep_their_distance(site, tmp_path):
    site.robots += "Crawl-delay: 7\n"
    now, waits = [0.0], []

    def sleep(seconds):
        waits.append(seconds)
        now[0] += seconds

    crawl(config(site, delay_s=2.0), tmp_path, sleep, lambda: now[0])
    assert set(waits) == {7.0}
    assert len(waits) >= len(site.asked) - 1
    assert crawl(config(site, delay_s=2.0, max_time_s=10.0), tmp_path / "short", sleep, lambda: now[0]).pages == 1


@pytest.mark.parametrize(("status", "pages"), [(404, 5), (503, 0), (429, 0)])
def test_a_missing_robots_txt_opens_a_site_and_a_broken_one_closes_it(site, tmp_path, status, pages):
    site.robots_status, site.robots = status, ""
    assert (crawl(config(site), tmp_path).pages > 0) == (pages > 0)


def test_private_addresses_are_refused_unless_allowed(site, tmp_path):
    done = crawl(config(site, addresses="public"), tmp_path)
    assert site.asked == []
    assert done.left == {"has the address 127.0.0.1, which is not public": 1}


@pytest.mark.parametrize("address", [
    "10.0.0.1", "169.254.169.254", "192.168.1.1", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1]", "0.0.0.0", "224.0.0.1", "2130706433",
])  # fmt: skip
def test_no_address_but_public_ones_is_touched(address):
    with pytest.raises(RefusedError, match="is not public"):
        fetch(f"http://{address}/", agent="x", limit=10, timeout_s=1, addresses="public")


def test_a_name_that_turns_private_is_refused(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("93.184.216.34", 80)), (0, 0, 0, "", ("127.0.0.1", 80))])
    with pytest.raises(RefusedError, match=r"127\.0\.0\.1, which is not public"):
        fetch("http://rebound.test/", agent="x", limit=10, timeout_s=1, addresses="public")


def test_a_server_that_drips_is_cut_off():
    with socket.create_server(("127.0.0.1", 0)) as server:
        def drip():
            with server.accept()[0] as client, contextlib.suppress(OSError):
                client.recv(1000)
                for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                    client.send(bytes([byte]))
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        with pytest.raises(RefusedError, match=r"took longer than 0\.4 s"):
            fetch(f"http://127.0.0.1:{server.getsockname()[1]}/", agent="x", limit=10**6, timeout_s=0.4, addresses="any")


@pytest.mark.parametrize("url", ["http://user@127.0.0.1:{}/", "http://127.0.0.1:22/", "ftp://127.0.0.1/", "http://127.0.0.1.evil.test/", "file:///etc/passwd"])
def test_only_the_named_domains_may_be_asked(site, url):
    assert not config(site).may_ask(url.format(site.server_port))
    assert config(site, domains=("x.org",)).may_ask("https://www.x.org/a")
    assert not config(site, domains=("x.org",)).may_ask("https://notx.org/a")


def test_a_crawl_needs_seeds():
    for seeds in ((), ("example.org",), ("ftp://x/",)):
        with pytest.raises(ConfigError, match=r"Crawl\.seeds"):
            Crawl(seeds=seeds)


@pytest.mark.parametrize(("pattern", "path", "fits"), [
    ("/a", "/ab", True), ("/a$", "/ab", False), ("/a$", "/a", True), ("/*.pdf$", "/x/y.pdf", True), ("/*.pdf$", "/x.pdf?q", False),
    ("/a*b*c", "/a1b2c3", True), ("/a*b*c", "/acb", False), ("*", "/x", True), ("/%7Ea", "/~a", True),
    ("/é", "/%C3%A9", True), ("/*a$", "/a", True),
])  # fmt: skip
def test_patterns_of_robots_txt(pattern, path, fits):
    assert Robots.parse(f"User-agent: x\nDisallow: {pattern}", "x").allows(path) != fits


def test_robots_txt_the_longest_rule_of_the_own_group_decides():
    text = "User-agent: *\nDisallow: /\n\nUser-agent: z\nDisallow: /a/b\n\n"
    text += "User-agent: Bloomery\nUser-agent: other\nDisallow: /a\nAllow: /a/b # x\nCrawl-delay: 3"
    robots = Robots.parse(text, "bloomery")
    assert [robots.allows(path) for path in ("/", "/a", "/a/b", "/robots.txt")] == [True, False, True, True]
    assert robots.delay_s == 3
    assert not Robots.parse(text, "unknown").allows("/")
    assert Robots.parse("Disallow: /", "x").allows("/")


@pytest.mark.timeout(20)
def test_hostile_robots_txt_takes_linear_time():
    robots = Robots.parse("User-agent: *\nDisallow: /" + "a*" * 50_000 + "b$", "x")
    assert robots.allows("/" + "a" * 100_000)


@pytest.mark.parametrize(("url", "plain"), [
    ("HTTP://Ex.org:80#x", "http://ex.org/"), ("https://ex.org:443/é?ö", "https://ex.org/%C3%A9?%C3%B6"), ("http://ex.org:8080/", "http://ex.org:8080/"),
    ("mailto:x@y", None), ("http://x y/", None), ("http://[::1", None), ("http://x:99999/", None), ("http://x/" + "a" * 3000, None),
])  # fmt: skip
def test_addresses_have_one_spelling(url, plain):
    assert normal(url) == plain
