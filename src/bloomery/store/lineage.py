"""Where an artifact came from, read from manifests alone: no recipe is needed."""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.store.artifact import Artifact
from bloomery.store.store import Store


@dataclass(frozen=True)
class Lineage:
    """An artifact and, by field, the lineages of its inputs. `artifact` is None where the store no longer holds it."""

    reference: str
    artifact: Artifact | None
    inputs: dict[str, Lineage]

    def verify(self) -> None:
        """Compares every file of the artifact and of all it came from with its checksum; raises `ArtifactError` at the first damage."""
        for artifact in self.artifacts().values():
            artifact.verify()

    def artifacts(self) -> dict[str, Artifact]:
        """Every artifact of the tree once, however many stand on it, inputs first."""
        found = {reference: artifact for child in self.inputs.values() for reference, artifact in child.artifacts().items()}
        return found if self.artifact is None else found | {self.reference: self.artifact}


def lineage(reference: str, store: Store) -> Lineage:
    """The tree from an artifact back to its sources."""
    artifact = store.find(reference)
    children = artifact.manifest.inputs if artifact is not None else {}
    return Lineage(reference, artifact, {field: lineage(child, store) for field, child in children.items()})
