"""Content keys: two things with the same key were made from the same inputs in the same way.

    key = hash(kind, contract, non-default fields, keys of the inputs)

Each value says itself how it counts (`Config.identity`): a stage inside another counts by its key, so that a change far upstream re-keys
everything below it and nothing beside it; a set of source files counts by its contents.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from bloomery.core.config import Config, to_plain

KEY_LENGTH = 12  # hex digits: 48 bits; a store of a million artifacts collides with probability 2e-3 %


def canonical_json(plain: Any) -> str:
    """JSON with sorted names and no spaces: the same text for the same data, on any machine. NaN and infinities are refused."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_key(value: Config | Any) -> str:
    """The key of a config (or of plain data): the first 12 hex digits of the SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical_json(to_plain(value)).encode()).hexdigest()[:KEY_LENGTH]
