"""What the Label page is told and tells: the next item, blind and shuffled; a judgement; how far people agree."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bloomery.stages.labels import Item, Judgement, Judgements, agreement, items_of, ranks_of, rows_of
from bloomery.store import Store
from bloomery.web.admission import RefusedError

FOLDER = "labels"


class Labelling:
    """The sets of a store.

    Args:
        store: whose `labels/` has a file for each set.
    """

    def __init__(self, store: Store) -> None:
        self.folder = store.root / FOLDER
        self._known: dict[Path, Judgements] = {}

    def sets(self) -> list[dict[str, Any]]:
        """All of them, with how many items and judgements each has."""
        found = [(path.stem, self._at(path)) for path in sorted(self.folder.glob("*.sqlite"))]
        return [{"name": name, "items": len(one.items()), "judged": len(one.standing())} for name, one in found]

    def next(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """What somebody is to judge next: nothing in it says who wrote what, or what is known to be right."""
        judgements, labeler = self._of(asked), _name(asked)
        item, done, of = judgements.next_for(labeler)
        return {"done": done, "of": of, "item": None if item is None else _shown(item, labeler)}

    def judge(self, told: Any) -> dict[str, Any]:
        """Takes a judgement; the answer says that it is on the disk, and what comes next."""
        if not isinstance(told, dict) or not isinstance(told.get("token"), str) or not 8 <= len(told["token"]) <= 80:
            raise RefusedError(400, 'the body is {"set", "labeler", "item", "token", "kind", "ranks" or "rates"}; token: 8 to 80 signs')
        judgements, labeler = self._of(told), _name(told)
        kind, item, seconds = told.get("kind"), told.get("item"), told.get("seconds")
        if kind not in ("ranks", "skip", "flag", "undo"):
            raise RefusedError(400, f"kind={str(kind)[:40]!r} is none of ranks, skip, flag, undo")
        if kind == "undo":
            last = judgements.last_of(labeler)
            if last is None:
                raise RefusedError(400, f"{labeler[:60]} has said nothing that could be taken back")
            item = last.item
        ranks = rates = None
        if kind == "ranks" and told.get("rates") is not None:
            ranks = ranks_of(rates := self._unshuffled(judgements, str(item), labeler, told["rates"]))
        elif kind == "ranks":
            ranks = self._unshuffled(judgements, str(item), labeler, told.get("ranks"))
        took = float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 86_400 else None
        new = judgements.add(Judgement(str(item), labeler, kind, ranks, took, rates), told["token"])
        return {"new": new} | self.next({"set": str(told["set"]), "labeler": labeler}) | ({"undone": item} if kind == "undo" else {})

    def add(self, told: Any) -> dict[str, Any]:
        """Takes a prompt with two to four answers into a set, which it begins where there is none; one that is there already is there once."""
        try:
            (item,) = items_of([json.dumps({"messages": told["messages"], "answers": told["answers"]})])
            path = self._path(told["set"])
        except (TypeError, KeyError):
            raise RefusedError(400, 'the body is {"set", "messages", "answers"}') from None
        judgements = self._at(path)
        return {"new": judgements.add_items([item]) == 1, "items": len(judgements.items())}

    def rows(self, asked: Mapping[str, str]) -> list[dict[str, Any]]:
        """What has been judged, as rows of preferences: what `bloomery label NAME --rows` writes."""
        judgements = self._of(asked)
        return rows_of(judgements.items(), judgements.standing())

    def agreed(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """How far people agree."""
        judgements = self._of(asked)
        told = agreement(judgements.items(), judgements.standing())
        return {
            "judged": dict(told.judged), "kappa": told.kappa, "gold": {who: list(right) for who, right in told.gold.items()},
            "between": [{"who": list(pair), "kappa": kappa, "same": same, "pairs": n} for pair, (kappa, same, n) in told.between.items()],
        }  # fmt: skip

    def _of(self, asked: Mapping[str, Any]) -> Judgements:
        name = str(asked.get("set", ""))
        path = self._path(name)
        if not path.is_file():
            raise RefusedError(404, f"there is no set {name[:64]!r} here; begin it with: bloomery label NAME --add answers.jsonl")
        return self._at(path)

    def _path(self, name: Any) -> Path:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            raise RefusedError(404, f"{str(name)[:64]!r} is no name of a set; take letters, digits, dots and dashes")
        return self.folder / f"{name}.sqlite"

    def _at(self, path: Path) -> Judgements:
        """The file, laid out once."""
        if path not in self._known or not path.is_file():
            self._known[path] = Judgements(path)
        return self._known[path]

    def _unshuffled(self, judgements: Judgements, id: str, labeler: str, shown: Any) -> tuple[int, ...]:
        """Ranks or rates of the answers as they stand in the item, from those of the answers as they were shown."""
        item = judgements.item(id)
        if not isinstance(shown, list) or len(shown) != len(item.answers) or not all(type(rank) is int for rank in shown):
            raise RefusedError(400, f"{str(shown)[:60]} is no number for each of {len(item.answers)} answers")
        ranks = [0] * len(shown)
        for place, rank in zip(item.order_for(labeler), shown, strict=True):
            ranks[place] = rank
        return tuple(ranks)


def _name(asked: Mapping[str, Any]) -> str:
    name = str(asked.get("labeler", "")).strip()
    if not 0 < len(name) <= 60:
        raise RefusedError(400, "who judges needs a name of 1 to 60 characters; give one")
    return name


def _shown(item: Item, labeler: str) -> dict[str, Any]:
    return {"id": item.id, "prompt": list(item.prompt), "answers": [item.answers[place] for place in item.order_for(labeler)]}
