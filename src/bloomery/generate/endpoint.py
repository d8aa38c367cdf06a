"""Models behind OpenAI-compatible endpoints: a question over HTTP, asked again with back-off where that may help.

What may pass (429, 408, 5xx, a connection that is cut, an answer that is late or no JSON) is asked again; what would be said again (400, a
prompt that is too long) is refused for this question; what no question can get past (401, 403, 404) ends it all. Redirects are not followed
and proxies not used, so that a key goes where it was meant to go, and over TLS unless that is this machine.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar
from urllib.parse import urlsplit

from bloomery.core.errors import ConfigError, ResourceError
from bloomery.core.rng import python_rng

T = TypeVar("T")
LIMIT = 16 << 20  # bytes of an answer that are read
AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
LOCAL = ("localhost", "127.0.0.1", "::1")
Sleep = Callable[[float], object]


@dataclass(frozen=True, kw_only=True)
class Access:
    """How endpoints are asked. None of it changes what is asked, and none of it is hashed or written anywhere.

    Attributes:
        key: sent as a bearer token; None sends none.
        at_once: questions under way at a time; None leaves that to who asks.
        attempts: times that a question is asked at most.
        timeout_s: for each of the steps of a request (connecting, each read).
        wait_s: before the second attempt; twice as long before each further one.
        longest_wait_s: between two attempts at most, whatever the server asks for.
    """

    key: str | None = field(default=None, repr=False)
    at_once: int | None = None
    attempts: int = 6
    timeout_s: float = 120.0
    wait_s: float = 1.0
    longest_wait_s: float = 60.0


@dataclass(frozen=True)
class Reply:
    """What a model said.

    Attributes:
        text: of its first choice.
        finished: why it ended, in the server's words ("stop", "length"); empty where it does not say.
        tokens: of prompt and answer together, as the server counts; 0 where it does not say.
        attempts: how often it was asked.
    """

    text: str
    finished: str
    tokens: int
    attempts: int


class RefusedError(Exception):
    """This question gets no answer, and would get none if asked again; says why, and how often it was asked in vain."""

    def __init__(self, told: str, attempts: int = 1) -> None:
        super().__init__(told)
        self.attempts = attempts


class NotThereError(ConfigError):
    """There is nothing at an address, or no such model."""


class _PassingError(Exception):
    """Something that may go well another time; `after_s` is how long the server wants to be left alone."""

    def __init__(self, told: str, after_s: float = 0.0) -> None:
        super().__init__(told)
        self.after_s = after_s


class UnreadableError(_PassingError):
    """An answer that is none."""


def ask(url: str, body: Mapping[str, Any], access: Access, seed: int = 0, sleep: Sleep = time.sleep) -> Reply:
    """Puts one question to a chat.

    Args:
        url: of the endpoint, up to and without "/chat/completions".
        body: of the request, as `POST /chat/completions` takes it.
        access: key, attempts and times.
        seed: of how long it waits between attempts.
        sleep: waits some seconds.

    Raises:
        What `again` raises.
    """
    request = Request("POST", url, "/chat/completions", body)
    (text, finished, tokens), attempts = again(request, _said_in, access, seed, sleep)
    return Reply(text, finished, tokens, attempts)


@dataclass(frozen=True)
class Request:
    """What an endpoint is asked.

    Attributes:
        method: of HTTP.
        url: of the endpoint.
        path: behind it.
        body: plain data, sent as JSON; or a file, sent as it is; None sends nothing.
    """

    method: Literal["GET", "POST", "PUT"]
    url: str
    path: str
    body: Mapping[str, Any] | Path | None = None


def again(
    request: Request, read: Callable[[Any], T], access: Access, seed: int = 0, sleep: Sleep = time.sleep, address: str = "Endpoint.url"
) -> tuple[T, int]:
    """Asks up to `access.attempts` times; what is read in the answer, and how often it was asked.

    Before attempt n + 1 it waits  wait_s · 2^(n−1) · u,  u uniform in [0.5, 1),  or what the server's Retry-After says, if that is longer.

    Args:
        request: what is asked.
        read: takes what is wanted from the JSON of an answer; an `UnreadableError`, or one of values, types or keys, says that it is none.
        access: key, attempts and times.
        seed: of the u.
        sleep: waits some seconds.
        address: what gives the address, to be named where that is wrong.

    Raises:
        RefusedError: the server refuses this question, or never gives an answer that can be read.
        ConfigError: the address is none, or the server refuses the key or knows no such model.
        ResourceError: the server cannot be reached, or has too much to do, however often it is asked.
    """
    check_address(request.url, access.key, address)
    draws, last = python_rng("endpoint", seed), _PassingError("is not asked")
    for attempt in range(1, access.attempts + 1):
        try:
            return _read(_call(request, access, address), read), attempt
        except _PassingError as error:
            last = error
            if attempt < access.attempts:
                backed_off = access.wait_s * 2 ** (attempt - 1) * draws.uniform(0.5, 1.0)
                sleep(min(max(backed_off, error.after_s), access.longest_wait_s))
    if isinstance(last, UnreadableError):
        raise RefusedError(f"{last}, {access.attempts} times", access.attempts)
    raise ResourceError(f"{request.url} {last}, {access.attempts} times; what is answered is kept: run the same command again when it is there")


def check_address(url: str, key: str | None, address: str = "Endpoint.url") -> None:
    """Refuses addresses that are none, and those over which a key would travel in the clear."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ConfigError(f"{address}={url!r} is no address of an endpoint; write https://HOST/v1, or http://localhost:PORT/v1")
    if key is not None and parts.scheme == "http" and parts.hostname not in LOCAL:
        raise ConfigError(f"{address}={url!r} would carry the key in the clear; use https, or leave the key out")


def _call(request: Request, access: Access, address: str) -> bytes:
    """The body of a 200."""
    url, parts = request.url, urlsplit(request.url)
    headers = {"Accept": "application/json"}
    if access.key is not None:
        headers["Authorization"] = f"Bearer {access.key}"
    host, port = parts.hostname or "", parts.port
    with ExitStack() as opened:
        body: bytes | BinaryIO | None = None
        if isinstance(request.body, Path):
            headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(request.body.stat().st_size)}
            body = opened.enter_context(request.body.open("rb"))
        elif request.body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(request.body).encode()
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=access.timeout_s, context=ssl.create_default_context(),
            )  # fmt: skip
        else:
            connection = http.client.HTTPConnection(host, port, timeout=access.timeout_s)
        opened.callback(connection.close)
        try:
            connection.request(request.method, parts.path.rstrip("/") + request.path, body, headers)
            response = connection.getresponse()
            content = response.read(LIMIT + 1)
            status, after = response.status, response.getheader("Retry-After", "")
        except TimeoutError:
            raise _PassingError(f"did not answer within {access.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise _PassingError(f"does not answer ({error or type(error).__name__})") from None
    if status == 200:
        return content
    said = _said(content, access.key)
    if status in AGAIN:
        raise _PassingError(f"answers {status}{said}", float(after) if after.replace(".", "", 1).isdigit() else 0.0)
    if status in (401, 403):
        raise ConfigError(f"{url} answers {status}{said}; give its key with --key-file FILE, or in BLOOMERY_API_KEY")
    if status == 404 or 300 <= status < 400:
        model = f", and the model's name, {request.body['model']!r}" if isinstance(request.body, Mapping) and "model" in request.body else ""
        raise NotThereError(f"{url}{request.path} answers {status}{said}; check {address}{model}")
    raise RefusedError(f"refused: {status}{said}")


def _read(content: bytes, read: Callable[[Any], T]) -> T:
    """What is wanted of an answer."""
    try:
        return read(json.loads(content or b"null"))
    except (ValueError, LookupError, TypeError) as error:
        raise UnreadableError(f"no answer that can be read ({type(error).__name__} in {len(content)} bytes)") from None


def _said_in(plain: Any) -> tuple[str, str, int]:
    """The first choice of a chat's answer: its text, why it ended, and the tokens that it cost."""
    choice = plain["choices"][0]
    text, usage = choice["message"]["content"], plain.get("usage")
    if not isinstance(text, str):
        raise UnreadableError("no answer that can be read (its content is no text)")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return text, str(choice.get("finish_reason") or ""), tokens if isinstance(tokens, int) else 0


def _said(content: bytes, key: str | None) -> str:
    """A server's own words, shortened, without the key that it may have repeated."""
    try:
        plain = json.loads(content)
        error = plain["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        text = content[:200].decode(errors="replace")
    text = " ".join((text if key is None else text.replace(key, "…")).split())[:200]
    return f" ({text})" if text else ""
