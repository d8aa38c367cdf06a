"""One polite request over HTTP: to addresses that may be touched, of bounded size and time, without following anything."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit


class RefusedError(Exception):
    """A request that is not made, or an answer that is not taken; says why."""


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        status: 200, 404 …
        headers: names as they came.
        body: as it came, but for chunks, which are joined.
        address: of the machine that was asked.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    address: str

    def header(self, name: str) -> str:
        """The first header of a name; empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


def fetch(
    url: str, *, agent: str, limit: int, timeout_s: float, addresses: Literal["public", "any"], content_types: tuple[str, ...] | None = None,
) -> Answer:
    """Asks for a page, once.

    The address is looked up once, checked, and then connected to, so that a name cannot change in between. Proxies are not used.

    Args:
        url: of http or https.
        agent: what we call ourselves.
        limit: bytes that the body may have.
        timeout_s: for the whole of it.
        addresses: "public" refuses private, loopback and other addresses that are not the Internet's.
        content_types: what the answer may be, if it is 200; None is anything.

    Raises:
        RefusedError: the address may not be touched, or the answer is of another type, too long, too late, or no HTTP.
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = _address(host, port, addresses)
    connection = _Pinned(host, port, address, timeout_s, ssl.create_default_context() if secure else None)
    watch = threading.Timer(timeout_s, connection.cut)  # a server that drips bytes never runs into a timeout of one read
    watch.daemon = True
    watch.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"User-Agent": agent, "Accept": "text/html, text/*;q=0.8", "Accept-Encoding": "identity"})
        response = connection.getresponse()
        kind = (response.getheader("Content-Type") or "").split(";")[0].strip().lower()
        if content_types is not None and response.status == 200 and kind not in content_types:
            raise RefusedError(f"is {kind or 'of no type'}, which is not read")
        body = bytearray()
        while response.status == 200 and (block := response.read1(1 << 16)):
            body += block
            if len(body) > limit:
                raise RefusedError(f"is longer than {limit} bytes")
        if connection.late:
            raise RefusedError(f"took longer than {timeout_s:g} s")
        return Answer(response.status, response.reason, tuple(response.getheaders()), bytes(body), address)
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = connection.late or isinstance(error, TimeoutError)
        raise RefusedError(f"took longer than {timeout_s:g} s" if late else f"does not answer ({error or type(error).__name__})") from None
    finally:
        watch.cancel()
        connection.close()


def _address(host: str, port: int, addresses: Literal["public", "any"]) -> str:
    try:
        found = [info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise RefusedError(f"has no address ({error})") from None
    for address in found:
        ip = ipaddress.ip_address(str(address).partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if addresses == "public" and (not ip.is_global or ip.is_multicast):
            raise RefusedError(f"has the address {address}, which is not public")
    return str(found[0])


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, whatever the name stands for by now."""

    def __init__(self, host: str, port: int, address: str, timeout_s: float, secure: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address, self._secure = address, secure
        self.late = False
        self.default_port = 443 if secure else 80

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure is not None:
            self.sock = self._secure.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock.do_handshake()

    def cut(self) -> None:
        """Ends whatever it is waiting for."""
        self.late = True
        with contextlib.suppress(OSError, AttributeError):
            self.sock.shutdown(socket.SHUT_RDWR)
