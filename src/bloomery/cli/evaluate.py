"""The verbs `eval` and `lm-eval`: tasks put to a model. Heavy imports stand inside, so that `--help` answers at once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bloomery.cli.given import artifact_of, device_of
from bloomery.cli.options import store_option
from bloomery.core.errors import ConfigError, ResourceError, did_you_mean

TELL_EVERY_S = 2.0


@click.command(
    "eval", context_settings={"ignore_unknown_options": True},
    epilog="""\b
Example: bloomery eval Train/chat recipes/tasks/tales.py
         bloomery eval Train/chat recipes/tasks/arc.py --data arc_val.jsonl --shown arc_train.jsonl --shots 5 --variants all
         bloomery eval Train/chat recipes/tasks/boolq.py --data boolq.jsonl --against Train/base --output boolq/
         bloomery eval Train/chat recipes/tasks/tales.py --weights int4 --against Train/chat        what rounding costs""",
)
@click.argument("model")
@click.argument("tasks", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--shots", type=click.IntRange(min=0), help="Examples before each question; as the task has it if not given.")
@click.option("--variants", default="first", show_default=True, metavar="first|all|NAME", help="Wordings of the task: its first one, which "
              "counts, all, with how far they are apart, or that of a name.")  # fmt: skip
@click.option("--against", metavar="MODEL", help="Another model that is asked the same; differences are told question by question.")
@click.option("--weights", type=click.Choice(["bfloat16", "int8", "int4", "nf4"]), help="Ask MODEL with its matrices in fewer bits, on a CPU, "
              "as `bloomery serve` keeps them; --against itself that says what it costs.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Rows asked at most, drawn by the seed.")
@click.option("--seed", type=int, help="Which rows and which examples are drawn; as the task has it if not given.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the page, on which every wrong answer can be "
              "read (assessment.html), all figures (results.json) and all answers (answers.jsonl).")  # fmt: skip
@click.option("--json", "form", flag_value="json", default="table", help="Print all figures as JSON.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="What to compute on.")
@store_option
def evaluate(
    model: str, tasks: tuple[str, ...], against: str | None, weights: str | None, output: Path | None, form: str, device: str, store_path: Path,
    **options: Any,
) -> None:
    """Put TASKS to MODEL: figures with standard errors and intervals, and every answer.

    A task is a Python file, or file.py:function, that returns a task or several. Dials are set as --NAME VALUE, of all tasks that have them.
    """
    from bloomery.stages.assess import respondent
    from bloomery.stages.assessment import Assessment
    from bloomery.stages.trained import verified
    from bloomery.stages.writing import WEIGHTS

    chosen = [_as_asked(task, **options) for task in tasks_of(tasks)]
    found = [verified(artifact_of(one, store_path)) for one in (model, against) if one is not None]
    names = [one.manifest.name for one in found]
    names[0] = names[0] if weights is None else f"{names[0]} {weights}"
    if len(set(names)) < len(names):
        names = [one.reference for one in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"--against {against} is the model itself, {names[0]}; name another")
    respondents = [respondent(one, name, device_of(device)) for one, name in zip(found, names, strict=True)]
    if weights is not None:
        WEIGHTS[weights].applied(respondents[0].model)
    title, last = f"{' and '.join(names)}: {', '.join(dict.fromkeys(task.name for task in chosen))}", [0.0]

    def tell(line: str) -> None:
        if time.monotonic() - last[0] > TELL_EVERY_S:
            last[0] = time.monotonic()
            click.echo(line, err=True)

    assessment = Assessment.of(title, chosen, respondents, tell)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        assessment.leave(output)
        click.echo(f"every answer is in {output / 'assessment.html'}", err=True)
    click.echo(json.dumps(assessment.plain(), ensure_ascii=False) if form == "json" else assessment.text(), nl=form == "json")


def tasks_of(arguments: Sequence[str]) -> list[Any]:
    """The tasks that files make, with their dials set."""
    from bloomery.cli.given import dial_texts
    from bloomery.evals import EvalTask
    from bloomery.recipe import load_task

    files, dials, rest = list[str](), list[str](), list(arguments)
    while rest:
        one = rest.pop(0)
        if one.startswith("--"):
            dials += [one] if "=" in one or not rest else [one, rest.pop(0)]
        else:
            files.append(one)
    if not files:
        raise ConfigError("there is no task to put; give the path of a .py file, such as recipes/tasks/tales.py")
    texts, loaded = dial_texts(dials), [load_task(file) for file in files]
    for name in texts:
        if not any(one.known({name: ""}) for one in loaded):
            known = [dial for one in loaded for dial in one.names]
            remedy = did_you_mean(name, known, f"they have {', '.join(known) or 'none'}")
            raise ConfigError(f"--{name.replace('_', '-')} is no option, and no dial of {', '.join(files)}; {remedy}")
    made = [one.set(one.known(texts)) for one in loaded]
    tasks = [task for one in made for task in (one if isinstance(one, tuple) else (one,))]
    if wrong := next((task for task in tasks if not isinstance(task, EvalTask)), None):
        raise ConfigError(f"a task file returns {type(wrong).__name__}; let it return an EvalTask, or a tuple of them")
    if len({task.name for task in tasks}) < len(tasks):
        raise ConfigError(f"two of the tasks {', '.join(task.name for task in tasks)} have one name; name each for what it asks")
    return tasks


def _as_asked(task: Any, shots: int | None, variants: str, limit: int | None, seed: int | None) -> Any:
    """A task as the options want it; of those without wordings only what they have."""
    from bloomery.evals.task import Prompted

    changes = {name: value for name, value in (("limit", limit), ("seed", seed)) if value is not None}
    if isinstance(task, Prompted):
        changes |= {} if shots is None else {"shots": shots}
        if variants != "all":
            names = [prompt.name for prompt in task.prompts]
            if variants not in ("first", *names):
                raise ConfigError(f"--variants {variants}: task {task.name!r} has no such wording; it has {', '.join(names)}; or take all")
            changes |= {"wordings": (names[0] if variants == "first" else variants,)}
    return task.replace(**changes) if changes else task


@click.command("lm-eval", context_settings={"ignore_unknown_options": True, "help_option_names": ["--usage"]}, epilog="""\b
Example: bloomery lm-eval --model bloomery --model_args path=store/Train/chat-0123456789ab --tasks arc_easy --num_fewshot 5""")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lm_eval(arguments: tuple[str, ...]) -> None:
    """Run lm-evaluation-harness's own command line, to which our models are known: --model bloomery --model_args path=FOLDER.

    All ARGUMENTS are the harness's, --help too. One that is served it asks with --model bloomery-served --model_args
    path=FOLDER,model=NAME,base_url=http://127.0.0.1:8000/v1/completions.
    """
    try:
        from lm_eval.__main__ import cli_evaluate  # pyrefly: ignore[missing-import]

        import bloomery.evals.harness  # noqa: F401  (registers our models)
    except ModuleNotFoundError as error:
        raise ResourceError(f"this needs {error.name}, which is not installed; pip install 'bloomery[harness]'") from None
    sys.argv = ["bloomery lm-eval", *arguments]
    cli_evaluate()
