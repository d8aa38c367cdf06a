"""`Slurm`: a run as a batch script. Ranks are Slurm's own tasks, so that nothing stands between them and its signals."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from bloomery.cli.launch.job import GRACE_S, Job, plain


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """Where on a Slurm cluster a job runs.

    Attributes:
        python: the interpreter, on a path that all nodes see.
        folder: in which it is started.
        logs: folder of its output.
        partition, account: as the cluster names them; None takes its defaults.
    """

    python: str
    folder: Path
    logs: Path
    partition: str | None = None
    account: str | None = None

    suffix = ".sbatch"
    submit = ("sbatch",)

    def text(self, job: Job) -> str:
        """The script.

        It goes on by itself: Slurm tells the script 120 s before it takes the nodes away, the ranks are told and save, and the job is queued
        again. A node that breaks has the same effect (`--requeue`), a run that fails up to `restarts` times.
        """
        command = shlex.join([self.python, "-m", "bloomery.cli", *job.arguments])
        return f"""#!/bin/bash
{self._options(job)}
set -u
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{job.cpus_per_rank}}}
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --kill-on-bad-exit=1 --cpus-per-task={job.cpus_per_rank} bash -c \\
  'export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS; exec "$@"' rank \\
  {command} &
ranks=$! told=
trap 'told=1; kill -TERM "$ranks"' TERM  # srun hands it on to its tasks
wait "$ranks"; code=$?
while kill -0 "$ranks" 2>/dev/null; do wait "$ranks"; code=$?; done  # the first wait ends when the trap does

if [ "$code" -ne 0 ] && {{ [ -n "$told" ] || [ "${{SLURM_RESTART_COUNT:-0}}" -lt {job.restarts} ]; }}; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""

    def _options(self, job: Job) -> str:
        options = {
            "job-name": job.name, "nodes": job.nodes, "ntasks-per-node": job.per_node, "gpus-per-node": job.gpus or None,
            "cpus-per-task": job.cpus_per_rank, "time": None if job.time_s is None else _clock(job.time_s),
            "partition": self.partition and plain("--partition", self.partition), "account": self.account and plain("--account", self.account),
            "chdir": self.folder, "output": self.logs / f"{job.name}-%j.log", "open-mode": "append", "requeue": "",
            "signal": f"B:TERM@{GRACE_S}",
        }  # fmt: skip
        return "\n".join(f"#SBATCH --{name}{'=' * (value != '')}{_quoted(value)}" for name, value in options.items() if value is not None)


def _quoted(value: object) -> str:
    """As sbatch reads it: between double quotes where there is anything but a word."""
    text = str(value)
    return text if shlex.quote(text) == text or not text else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
