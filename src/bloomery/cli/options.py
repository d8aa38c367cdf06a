"""Options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

store_option = click.option(
    "--store", "store_path", type=click.Path(path_type=Path), default=Path("store"), show_default=True, envvar="BLOOMERY_STORE",
    help="Folder of the artifacts.",
)  # fmt: skip

weights_option = click.option(
    "--weights", type=click.Choice(["plain", "packed", "compiled", "bfloat16", "int8", "int4", "nf4"]), help="How matrices are kept, on a "
    "CPU: as they are; the same numbers laid out for few rows (unless given), or twice, with code for single rows that is written first, in a "
    "minute or two; or rounded to fewer bits, of which int8 is the fastest.",
)  # fmt: skip

cache_option = click.option(
    "--cache", "past", type=click.Choice(["float32", "bfloat16", "int8"]), help="How keys and values of what was read are kept: less memory, "
    "and more time on a CPU; as the model's own numbers unless given.",
)  # fmt: skip

draft_option = click.option(
    "--draft", metavar="VALUE", help="Guess several tokens and read them at once, with the same distribution of texts: Ngram(), "
    "EarlyExit(n_layers=2), Draft(model='Train/small', n_tokens=4).",
)  # fmt: skip


def run_options(command: Any) -> Any:
    """The options that say where and how to run; none of them changes a result."""
    for option in (
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="What to compute on."),
        click.option("--micro-batch", type=click.IntRange(min=1), help="Rows per forward pass; chosen by memory if not given."),
        click.option("--compile", "compiling", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
                     help="torch.compile: auto where the planned steps repay it."),
        click.option("--workers", type=click.IntRange(min=1), help="Processes that work on documents; one per core if not given."),
        click.option("--cluster", metavar="ADDRESS", help="Work on documents on a Ray cluster: auto, ray://host:port, or local."),
        click.option("--layout", metavar="AXIS=RANKS,…", default="", help="How training is spread over the ranks that a launcher has started: "
                     "pipeline, replicate, shard, context, tensor, expert; zero, schedule, stages. One axis may be auto; "
                     "replicate=auto unless given."),
        click.option("--recompute", default="none", show_default=True, metavar="none|full|selective|SIZE", help="Activations that training "
                     "computes again instead of keeping them; with a size (8GiB), as few as keep the rest within it."),
        click.option("--offload", default="none", show_default=True, metavar="none|activations|optimizer", help="What waits in the host's "
                     "memory while a GPU does not need it; both with a comma. Activations only in steps that are not compiled, and "
                     "with no SIZE for --recompute."),
        click.option("--tracker", "trackers", type=click.Choice(["tensorboard", "aim", "trackio", "wandb", "none"]), multiple=True,
                     default=("tensorboard",), show_default=True, help="Where figures go besides their JSON lines; several may be given."),
        click.option("--keep-every", type=click.IntRange(min=1), metavar="STEPS",
                     help="Make a checkpoint of each training after every so many steps, and keep it for good."),
        click.option("--key-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Holds the key of the endpoints that a "
                     "recipe asks; or BLOOMERY_API_KEY is it. It is sent to them, and written nowhere."),
        click.option("--at-once", type=click.IntRange(min=1), help="Questions to an endpoint under way at a time; 8 unless given, and 64 texts "
                     "of a policy."),
        click.option("--engine-url", "engines", metavar="URL", multiple=True, help="A server that writes the texts of policies whose rollouts "
                     "have another engine than ours: http://localhost:8000/v1; several may be given, and share them."),
        click.option("--quiet", is_flag=True, help="Print nothing but errors."),
        store_option,
    ):  # fmt: skip
        command = option(command)
    return command


def rule_options(command: Any) -> Any:
    """The options that say what else holds for what a model writes."""
    for option in (
        click.option("--rule", "rules", multiple=True, metavar="VALUE", help="What changes how likely tokens are, as in a recipe; may be given "
                     "several times: Repetition(factor=1.2), Presence(amount=…), Frequency(amount=…), NoRepeatNGram(n=3), "
                     "NoRepeatedSentence, LogitBias(biases={id: …}), OneOf(texts=('yes', 'no')), Regex(pattern='[0-9]+'), "
                     "Json(matching={schema})."),
        click.option("--stop", "stops", multiple=True, metavar="TEXT", help="End an answer before this text; may be given several times."),
    ):  # fmt: skip
        command = option(command)
    return command


def launch_options(command: Any) -> Any:
    """The options that say who starts the ranks of a layout."""
    for option in (
        click.option("--launch", "launcher", type=click.Choice(["torchrun", "slurm", "kubernetes"]),
                     help="Start the ranks of --layout: on this machine, or by a job file for a cluster."),
        click.option("--nodes", type=click.IntRange(min=1), help="Machines; as many as the ranks need if not given."),
        click.option("--gpus-per-node", type=click.IntRange(min=1), help="GPUs, and so ranks, of each; 8 at most if not given."),
        click.option("--cpus-per-gpu", type=click.IntRange(min=1), default=8, show_default=True, help="Cores of each rank."),
        click.option("--time", metavar="D-HH:MM:SS", help="The longest that the job may take."),
        click.option("--restarts", type=click.IntRange(min=0), default=0, show_default=True, help="Starts anew after a failure."),
        click.option("--partition", help="Of the Slurm cluster."),
        click.option("--account", help="Of the Slurm cluster."),
        click.option("--image", help="That pods run; bloomery is installed in it."),
        click.option("--claim", help="Kubernetes' volume claim of the store."),
        click.option("--namespace", help="Of the Kubernetes cluster."),
        click.option("--submit", is_flag=True, help="Hand the job file to sbatch or kubectl."),
        click.option("--dry-run", is_flag=True, help="Print the command or the job file, and leave."),
    ):  # fmt: skip
        command = option(command)
    return command


def means_options(command: Any) -> Any:
    """The options that say what a plan is made for."""
    for option in (
        click.option("--layout", metavar="AXIS=RANKS,…", default="", help="How training would be spread over ranks: pipeline, replicate, "
                     "shard, context, tensor, expert; zero, schedule, stages. One rank if not given."),
        click.option("--machine", metavar="NAME", help="What each rank would have (a100-80gb, h100, h200, b200, mi300x, …); this machine if "
                     "not given."),
        click.option("--memory", metavar="SIZE", help="Of each, where it is not as on the data sheet: 64GiB."),
        click.option("--price", type=click.FloatRange(min=0), help="Of an hour of each, in any currency; none is assumed."),
        click.option("--utilisation", type=click.FloatRange(min=0, max=1, min_open=True), default=0.5, show_default=True,
                     help="Share of its peak that computing reaches while nothing is waited for: an assumption; measure yours."),
        click.option("--micro-batch", type=click.IntRange(min=1), help="Rows per forward pass; as a run would choose if not given."),
        click.option("--recompute", default="none", show_default=True, metavar="none|full|selective|SIZE", help="Activations that training "
                     "would compute again instead of keeping them, as a run takes it."),
        click.option("--offload", default="none", show_default=True, metavar="none|activations|optimizer", help="What would wait in the host's "
                     "memory while a GPU does not need it, as a run takes it."),
    ):  # fmt: skip
        command = option(command)
    return command
