"""Artifacts on disk: atomic and checksummed writes, leases, manifests written last."""

from bloomery.store.artifact import Artifact, FileRecord, Manifest
from bloomery.store.files import read_json, sha256_of, write_bytes, write_json, write_text
from bloomery.store.journal import Journal
from bloomery.store.lineage import Lineage, lineage
from bloomery.store.store import Store, Workspace, find_artifact

__all__ = [
    "Artifact", "FileRecord", "Journal", "Lineage", "Manifest", "Store", "Workspace", "find_artifact",
    "lineage", "read_json", "sha256_of", "write_bytes", "write_json", "write_text",
]  # fmt: skip
