"""robots.txt: what a site asks of crawlers.

Source: RFC 9309 (2022); `Crawl-delay` as its authors' sites use it. Matching takes linear time, whatever a site writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

LONGEST = 512 << 10  # bytes that are read of one
LONGEST_DELAY_S = 60.0  # that is honoured


@dataclass(frozen=True)
class Robots:
    """What a site asks of one crawler.

    Attributes:
        rules: patterns of paths, and whether they are allowed.
        delay_s: seconds between two requests; 0 where nothing is said.
    """

    rules: tuple[tuple[str, bool], ...] = ()
    delay_s: float = 0.0

    @classmethod
    def parse(cls, text: str, agent: str) -> Robots:
        """The group of a robots.txt that is for the agent (a product's name, "bloomery"), or else the one for all."""
        groups: dict[str, list[tuple[str, str]]] = {}
        names: list[str] = []
        ruled = False
        for line in text[:LONGEST].splitlines():
            key, colon, value = line.partition("#")[0].partition(":")
            key, value = key.strip().lower(), value.strip()
            if not colon:
                continue
            if key == "user-agent":
                names, ruled = ([] if ruled else names), False
                names.append(value.lower())
                groups.setdefault(value.lower(), [])
            elif key in ("allow", "disallow", "crawl-delay"):
                ruled = True
                for name in names:
                    groups[name].append((key, value))
        lines = groups.get(agent.lower(), groups.get("*", []))
        delays = [float(value) for key, value in lines if key == "crawl-delay" and re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", value)]
        rules = tuple((_plain(value), key == "allow") for key, value in lines if key != "crawl-delay" and value)
        return cls(rules, min(delays[0], LONGEST_DELAY_S) if delays else 0.0)

    def allows(self, path: str) -> bool:
        """Whether a path with its query may be fetched: the longest pattern that fits decides, and of two as long the one that allows."""
        path = _plain(path)
        fitting = [(len(pattern), allowed) for pattern, allowed in self.rules if _fits(pattern, path)]
        return path == "/robots.txt" or not fitting or max(fitting)[1]


def _plain(path: str) -> str:
    """One spelling of a path."""
    return quote(unquote(path), safe="/*$?&=+,;:@!'()~%#[]")


def _fits(pattern: str, path: str) -> bool:
    ends = pattern.endswith("$")
    first, *others = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not others:
        return at == len(path) or not ends
    for part in others[:-1]:
        at = path.find(part, at)
        if at < 0:
            return False
        at += len(part)
    last = others[-1]
    return path.endswith(last) and len(path) - len(last) >= at if ends else path.find(last, at) >= 0
