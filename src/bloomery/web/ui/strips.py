"""What a store says of recipes: each as a strip of stages, with what is there, what is under way and what comes next."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
from pathlib import Path
from typing import Any, Literal

from bloomery.store import Artifact, Lineage, Store, lineage, read_json
from bloomery.store.store import LEASE

Status = Literal["done", "running", "failed", "stopped", "missing"]
LOCKS = "*.lock.json"
USUAL = Path("store")  # where commands look that are told of no other
ARROW = "→ "  # how a lock file says that a field is another stage
UNSAID = ("kind", "contract")


def strips(store: Store) -> list[dict[str, Any]]:
    """Every recipe that has been run here, the newest first."""
    found = sorted(store.root.glob(LOCKS), key=lambda path: path.stat().st_mtime, reverse=True)
    return [strip(store, path) for path in found]


def strip(store: Store, lock: Path) -> dict[str, Any]:
    """One recipe, from its lock file: its stages in order, and the next command."""
    plain = read_json(lock)
    stages = [_stage(store, label, said["reference"], said["fields"]) for label, said in plain["stages"].items()]
    return {"name": plain["recipe"], "changed": lock.stat().st_mtime, "stages": stages, "next": _next(store, plain, stages)}


def loose(store: Store) -> list[dict[str, Any]]:
    """What is in the store and belongs to no recipe's last run, the newest first."""
    told = locked(store)
    return [_done(artifact) for artifact in reversed(store.artifacts()) if artifact.reference not in told]


def locked(store: Store) -> dict[str, dict[str, Any]]:
    """What the last run of each recipe was of: the fields of each stage on one level, finished or not, by its reference."""
    return {said["reference"]: said["fields"] for lock in store.root.glob(LOCKS) for said in read_json(lock)["stages"].values()}


def status_of(store: Store, reference: str) -> Status:
    """Whether an artifact is there, is being made, could not be made, was begun, or is none of these."""
    if store.find(reference) is not None:
        return "done"
    if _held(store.path(reference + LEASE)):
        return "running"
    if store.failure(reference):
        return "failed"
    return "stopped" if store.has_partial(reference) else "missing"


def folder_of(store: Store, reference: str) -> Path | None:
    """Where its files are, finished or not; None where there are none. Nothing outside the store is ever named."""
    stage, slash, name = reference.partition("/")
    if not slash or {stage, name} & {"", ".", ".."} or any(sign in name + stage for sign in ("/", "\\", "\0")):
        return None
    return next((path for path in (store.path(reference), store.path(f"{reference}.partial")) if path.is_dir()), None)


def finished(store: Store, reference: str) -> Artifact | None:
    """What is finished of that name; None where nothing is. Nothing outside the store is ever named."""
    return None if folder_of(store, reference) is None else store.find(reference)


def artifact_told(store: Store, reference: str) -> dict[str, Any] | None:
    """Everything that a manifest says, and the tree that it came from; None where it is not finished."""
    if (artifact := finished(store, reference)) is None:
        return None
    return _done(artifact) | {
        "fields": artifact.manifest.fields, "summary": artifact.manifest.summary, "made": artifact.manifest.made,
        "files": [{"name": name, "bytes": record.bytes} for name, record in artifact.manifest.files.items()],
        "lineage": _tree(lineage(reference, store)),
    }  # fmt: skip


def _stage(store: Store, label: str, reference: str, fields: dict[str, Any]) -> dict[str, Any]:
    inputs = [value.removeprefix(ARROW) for value in fields.values() if isinstance(value, str) and value.startswith(ARROW)]
    told: dict[str, Any] = {"label": label, "inputs": list(dict.fromkeys(inputs)), "of": fields.get("steps")}
    artifact = store.find(reference)
    if artifact is not None:
        return told | _done(artifact)
    status = status_of(store, reference)
    return told | {
        "reference": reference, "stage": reference.partition("/")[0], "status": status, "step": _step(store, reference),
        "why": store.failure(reference) if status == "failed" else "",
    }  # fmt: skip


def _done(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "reference": artifact.reference, "stage": manifest.stage, "name": manifest.name, "key": manifest.key, "status": "done",
        "seconds": manifest.made["seconds"], "started": manifest.made["started"], "bytes": sum(r.bytes for r in manifest.files.values()),
        "figures": {name: value for name, value in manifest.summary.items() if isinstance(value, int | float | str)},
    }  # fmt: skip


def _step(store: Store, reference: str) -> int | None:
    """The last step that an unfinished training has told."""
    path = store.path(f"{reference}.partial") / "metrics.jsonl"
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = [line for line in file.read().split(b"\n")[1:] if line.startswith(b"{") and line.endswith(b"}")]
        return json.loads(lines[-1])["step"] if lines else 0
    except (OSError, ValueError, KeyError):
        return None


def _tree(found: Lineage) -> dict[str, Any]:
    return {
        "reference": found.reference, "there": found.artifact is not None,
        "inputs": [{"field": name} | _tree(child) for name, child in found.inputs.items()],
    }  # fmt: skip


def _held(lease: Path) -> bool:
    """Whether a process holds a lease. The look itself holds it for no longer than it takes to let go."""
    try:
        descriptor = os.open(lease, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _next(store: Store, lock: dict[str, Any], stages: list[dict[str, Any]]) -> str:
    """The one command that goes on from here."""
    if any(stage["status"] == "running" for stage in stages) or not stages:
        return ""
    here = "" if store.root == USUAL else f" --store {shlex.quote(str(store.root))}"
    if any(stage["status"] != "done" for stage in stages):
        return (lock.get("command") or f"bloomery run recipes/{lock['recipe']}.py") + here
    models = [stage["reference"] for stage in stages if stage["stage"] == "Train"]
    return (f"bloomery chat {models[-1]}" if models else f"bloomery show {stages[-1]['reference']}") + here
