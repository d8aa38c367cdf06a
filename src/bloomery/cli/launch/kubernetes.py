"""`Kubernetes`: a run as an Indexed Job of one pod per node, which find each other through a headless service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.cli.launch.job import GRACE_S, Job, plain
from bloomery.cli.launch.yaml import documents
from bloomery.core.errors import ConfigError

PORT = 29500
RECIPES, STORE = "/recipe", "/store"  # where pods see the recipe and the store


@dataclass(frozen=True, kw_only=True)
class Kubernetes:
    """Where on a Kubernetes cluster a job runs.

    Attributes:
        image: with bloomery installed in it.
        claim: the volume claim of the store, which all pods can write.
        recipe: the recipe's file, which the pods get a copy of.
        namespace: None takes kubectl's own.
    """

    image: str
    claim: str
    recipe: Path
    namespace: str | None = None

    suffix = ".yaml"
    submit = ("kubectl", "apply", "-f")

    def text(self, job: Job) -> str:
        """The manifest: the recipe's file, the service, and the job.

        Pods that fail are started anew, `restarts` times each; the run goes on from its last checkpoint.
        """
        return documents([self._recipe(job), self._service(job), self._job(job)])

    def _recipe(self, job: Job) -> dict[str, Any]:
        data = {self.recipe.name: self.recipe.read_text("utf-8")}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": self._named(job), "data": data}

    def _service(self, job: Job) -> dict[str, Any]:
        spec = {
            "clusterIP": "None", "selector": {"job-name": job.name}, "ports": [{"name": "ranks", "port": PORT}],
            "publishNotReadyAddresses": True,  # pods must find each other before they are ready
        }  # fmt: skip
        return {"apiVersion": "v1", "kind": "Service", "metadata": self._named(job), "spec": spec}

    def _job(self, job: Job) -> dict[str, Any]:
        limit = {} if job.time_s is None else {"activeDeadlineSeconds": job.time_s}
        pod = {
            "subdomain": job.name, "restartPolicy": "Never", "terminationGracePeriodSeconds": GRACE_S, "containers": [self._container(job)],
            "volumes": [
                {"name": "recipe", "configMap": {"name": job.name}}, {"name": "store", "persistentVolumeClaim": {"claimName": self._claim}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
            ],
        }  # fmt: skip
        spec = {
            "completionMode": "Indexed", "completions": job.nodes, "parallelism": job.nodes, "backoffLimit": job.restarts * job.nodes, **limit,
            "template": {"metadata": {"labels": {"app.kubernetes.io/name": "bloomery"}}, "spec": pod},
        }  # fmt: skip
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": self._named(job), "spec": spec}

    def _container(self, job: Job) -> dict[str, Any]:
        start = [
            "python", "-m", "torch.distributed.run", f"--nnodes={job.nodes}", f"--nproc-per-node={job.per_node}", "--node-rank=$(NODE_RANK)",
            "--master-addr=$(MASTER_ADDR)", f"--master-port={PORT}", "-m", "bloomery.cli",
        ]  # fmt: skip
        index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
        resources: dict[str, Any] = {"cpu": job.cpus_per_rank * job.per_node} | ({"nvidia.com/gpu": job.gpus} if job.gpus else {})
        return {
            "name": "ranks", "image": plain("--image", self.image),
            "command": [*start, *(argument.replace("$", "$$") for argument in job.arguments)],  # $(…) would be replaced in them, too
            "env": [
                {"name": "NODE_RANK", "valueFrom": index}, {"name": "MASTER_ADDR", "value": f"{job.name}-0.{job.name}"},
                {"name": "OMP_NUM_THREADS", "value": str(job.cpus_per_rank)},
                {"name": "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "value": str(GRACE_S - 10)},
            ],
            "resources": {"requests": resources, "limits": resources},
            "volumeMounts": [
                {"name": "recipe", "mountPath": RECIPES}, {"name": "store", "mountPath": STORE}, {"name": "memory", "mountPath": "/dev/shm"},
            ],
        }  # fmt: skip

    @property
    def _claim(self) -> str:
        return _resource("--claim", self.claim)

    def _named(self, job: Job) -> Mapping[str, str]:
        return {"name": job.name, **({} if self.namespace is None else {"namespace": _resource("--namespace", self.namespace)})}


def _resource(option: str, name: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", name):
        raise ConfigError(f"{option} {name!r} is no name of Kubernetes; lower-case letters, digits, hyphens and dots make one")
    return name
