"""Who may ask a server of ours: by its key, and never a page of another site on behalf of its visitor."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

LOCAL = frozenset(("localhost", "127.0.0.1", "[::1]", "::1"))


class RefusedError(Exception):
    """A request that gets no answer but why.

    Attributes:
        status: of the answer.
        kind: of the refusal, as OpenAI's API names it.
        code: what it is exactly, if that has a name there.
    """

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.code = status, kind, code


@dataclass(frozen=True)
class Admission:
    """Who may ask.

    Attributes:
        keys: of which each request must bear one; none asks for none.
        local: whether the server is to be reached from this machine only.
        cookie: where a browser keeps its key; empty takes none from cookies.
    """

    keys: Sequence[str] = ()
    local: bool = True
    cookie: str = ""

    def check(self, request: Request, *, free: bool = False) -> None:
        """Raises `RefusedError` for a request that comes from a page of another site, or bears no key.

        Args:
            request: the request.
            free: whether what it asks for is told without a key.
        """
        host = request.headers.get("host", "")
        if self.local and host_of(host) not in LOCAL:
            raise RefusedError(403, "this server is asked as localhost or 127.0.0.1 only", "permission_error")
        origin = request.headers.get("origin", "http://localhost").partition("://")[2]
        foreign = request.headers.get("sec-fetch-site") == "cross-site" and request.headers.get("sec-fetch-mode") != "navigate"
        if foreign or (host_of(origin) not in LOCAL and (self.local or origin != host)):
            raise RefusedError(403, "requests from pages of other sites are not answered", "permission_error")
        if self.keys and not free and not self._known(request):
            raise RefusedError(401, "no such API key; send it as Authorization: Bearer KEY", "authentication_error", "invalid_api_key")

    def _known(self, request: Request) -> bool:
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            key = request.cookies.get(self.cookie, "") if self.cookie else ""
        return self.has(key)

    def has(self, key: str) -> bool:
        """Whether a key is one of them; all are compared, so that the time tells nothing."""
        known = [hmac.compare_digest(key.strip().encode(), one.encode()) for one in self.keys]
        return any(known)


def host_of(place: str) -> str:
    """host:port without the port."""
    name, colon, port = place.rpartition(":")
    return name if colon and port.isdecimal() else place
