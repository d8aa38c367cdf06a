"""What a training was planned to take, and beside it, once it is done, what it took."""

from __future__ import annotations

from collections.abc import Mapping

from bloomery.core.units import human_bytes, human_count
from bloomery.planning.outlook import Outlook

Plan = Mapping[str, Mapping[str, float]]
"""Figure → {"planned", "measured", "ratio"}; the last two where it could be measured."""
HEAD = ("", "planned", "measured", "measured / planned")
NAMES = {
    "tokens_per_s": "speed", "tensors": "tensors at their most", "resident": "resident memory at its most", "optimizer": "optimiser",
}  # fmt: skip
"""How figures are called where people see them, if not by their key."""


def compare(outlook: Outlook, measured: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """What was planned, each figure with what was measured for it.

    Args:
        outlook: the plan.
        measured: "tokens_per_s"; "tensors" or "resident", the most memory at a time, by what was counted; "weights" and "optimizer",
            the bytes of those. Of the rank that has most; 0 or left out where it is not known.
    """
    most = {kind: max(place.parts[kind] for place in outlook.places) for kind in ("weights", "optimizer")}
    memory = "tensors" if "tensors" in measured else "resident"
    planned = {"tokens_per_s": outlook.speed.tokens_per_s, memory: outlook.memory.total, **most}
    return {
        name: {"planned": round(value, 1)} | ({"measured": there, "ratio": round(there / value, 4)} if (there := measured.get(name)) else {})
        for name, value in planned.items() if value
    }  # fmt: skip


def rows_of(plan: Plan) -> list[tuple[str, ...]]:
    """A line for each figure as people read it; `HEAD` stands above them."""

    def shown(name: str, value: float | None) -> str:
        if value is None:
            return "–"
        return f"{human_count(value)} tokens/s" if name == "tokens_per_s" else human_bytes(value)

    return [
        (NAMES.get(name, name), shown(name, one["planned"]), shown(name, one.get("measured")), f"{one['ratio']:.2f}" if "ratio" in one else "–")
        for name, one in plan.items()
    ]  # fmt: skip
