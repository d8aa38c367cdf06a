"""`bloomery VERB …`: the verbs. Heavy imports stand inside the verbs, so that `--help` answers at once."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, Literal

import click

from bloomery import __version__
from bloomery.cli.ask import chat, generate, serve
from bloomery.cli.evaluate import evaluate, lm_eval
from bloomery.cli.given import artifact_of, context_of, dial_texts, flat_of, launching, recipe_of, store_at, told_by_another
from bloomery.cli.label import label
from bloomery.cli.options import launch_options, means_options, run_options, store_option
from bloomery.cli.share import export, import_, push
from bloomery.cli.ui import ui
from bloomery.core.errors import BloomeryError, ConfigError, NumericsError, StoppedError

ALIKE = ConfigError, NumericsError, StoppedError  # what all ranks on one machine come to together, if one does
RECIPE_SETTINGS = {"ignore_unknown_options": True, "allow_extra_args": True}


def main() -> None:
    """Entry point. What the user can mend is told in one sentence, with an exit code of its own."""
    try:
        cli(standalone_mode=False)
    except BloomeryError as error:
        if not (isinstance(error, ALIKE) and told_by_another()):
            click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; the same command goes on from here", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `bloomery show | head`
        sys.stderr.close()
        sys.exit(0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bloomery")
def cli() -> None:
    """From raw text to a trained, adapted, evaluated and served Transformer.

    \b
    Try:  bloomery run recipes/quickstart.py        a chatting model on this CPU, in minutes
          bloomery plan recipes/quickstart.py       what that would do, without doing it
          bloomery size 10b --ranks 64 --machine h100   what a large one would take, without having it
          bloomery chat store/Train/chat-…          talk to a trained model
          bloomery generate store/Train/chat-… --prompts questions.txt --output answers.jsonl   ask it much
          bloomery eval store/Train/chat-… recipes/tasks/tales.py   put a task to it
    """


for verb in (chat, generate, evaluate, lm_eval, serve, export, import_, push, label, ui):
    cli.add_command(verb)


@cli.command(
    context_settings=RECIPE_SETTINGS,
    epilog="""\b
Example: bloomery plan recipes/stdlib.py --steps 500
         bloomery plan recipes/stdlib.py --layout shard=8 --machine h100 --price 2.5""",
)
@click.argument("recipe")
@means_options
@store_option
@click.pass_context
def plan(ctx: click.Context, recipe: str, store_path: Path, **means: Any) -> None:
    """Show what a run of RECIPE would make, reuse and resume, and which field is why; and of each training, the memory of every rank by
    kind, its time and cost, and what would help where it does not fit. Touches nothing.

    RECIPE is a Python file, or file.py:function. Its dials are set as --NAME VALUE.
    """
    from bloomery.cli.show import print_plan
    from bloomery.recipe import plan as plan_recipe

    dials, texts = recipe_of(recipe, ctx.args)
    planned = plan_recipe(dials.set(texts), store_at(store_path))
    print_plan(dials, texts, planned)
    if any(row.stage.kind() == "Train" and row.status != "ready" for row in planned):
        from bloomery.cli.plan import Means, print_trainings

        print_trainings(planned, Means(**means))


@cli.command("size", epilog="Example: bloomery size 10b --tokens 200B --learnt 1T --grow-to 15b --ranks 64 --machine h100 --price 2.5")
@click.argument("model")
@click.option("--tokens", default="100B", show_default=True, help="To train on.")
@click.option("--learnt", default="0", show_default=True, help="Tokens that the model has seen before.")
@click.option("--grow-to", "grown", metavar="MODEL", help="What it could become before it goes on; half as large again if not given.")
@click.option("--batch-tokens", default="4M", show_default=True, help="Tokens of a step; rounded to rows that the ranks share evenly.")
@click.option("--time", type=click.IntRange(min=1), help="Tokens in a row; at most 4096 of what the model can read if not given.")
@click.option("--precision", type=click.Choice(["bf16", "fp32"]), default="bf16", show_default=True, help="Of matrix products.")
@click.option("--optimizer", type=click.Choice(["adamw", "muon"]), default="adamw", show_default=True, help="What takes the steps.")
@click.option("--ranks", type=click.IntRange(min=1), help="Take the fastest layout of so many ranks that fits, instead of --layout.")
@means_options
def size(
    model: str, tokens: str, learnt: str, grown: str | None, batch_tokens: str, time: int | None, precision: Literal["bf16", "fp32"],
    optimizer: str, ranks: int | None, **means: Any,
) -> None:
    """Plan the training of MODEL, an architecture that `bloomery models` lists, without a recipe: the memory of every rank by kind, time,
    cost, other ways to lay it out, and whether model and data go together. Needs no accelerator, for any number of ranks."""
    from bloomery.cli.plan import Means
    from bloomery.cli.plan import size as plan_size

    plan_size(
        model, Means(**means), tokens=tokens, learnt=learnt, batch_tokens=batch_tokens, time=time, precision=precision, optimizer=optimizer,
        ranks=ranks, grown=grown,
    )  # fmt: skip


@cli.command(
    context_settings=RECIPE_SETTINGS,
    epilog="""\b
Example: bloomery run recipes/stdlib.py --source 'notes/*.md' --steps 300
         bloomery run recipes/stdlib.py --layout shard=2 --launch torchrun            two ranks on this machine
         bloomery run recipes/stdlib.py --layout shard=16 --launch slurm --dry-run    the batch script for two nodes of eight""",
)
@click.argument("recipe")
@launch_options
@run_options
@click.pass_context
def run(ctx: click.Context, recipe: str, launcher: str | None, **options: Any) -> None:
    """Make what RECIPE wants; what is already there is reused, and what was interrupted goes on.

    RECIPE is a Python file, or file.py:function. Its dials are set as --NAME VALUE.
    """
    from bloomery.cli.show import print_results
    from bloomery.recipe import run as run_recipe

    launch = launching(ctx, launcher, options)
    dials, texts = recipe_of(recipe, ctx.args)
    if launcher is not None:
        from bloomery.cli.launch.start import start

        sys.exit(start(ctx, launcher, dials, texts, launch))
    context = context_of(**options)
    artifacts = run_recipe(dials.set(texts), context, shlex.join(["bloomery", "run", recipe, *ctx.args]))
    if not context.quiet:
        print_results(artifacts)


@cli.command(
    context_settings=RECIPE_SETTINGS,
    epilog="""\b
Examples:
  bloomery doctor recipes/quickstart.py                     every training of a recipe, as it would start
  bloomery doctor recipes/quickstart.py --stage base --quick"""
)
@click.argument("recipe")
@click.option("--stage", metavar="NAME", help="Only the training of this name.")
@click.option("--quick", "effort", flag_value="quick", help="Look at fewer rows, directions and steps.")
@click.option("--make", type=click.Choice(["nothing", "data", "all"]), default="data", show_default=True,
              help="What to make if it is missing: data are corpora, tokenizers and tokens; all are trainings, too.")
@run_options
@click.pass_context
def doctor(ctx: click.Context, recipe: str, stage: str | None, effort: str | None, make: Any, **options: Any) -> None:
    """Examine each training of RECIPE as it would start: a line per check, and the remedy where something is wrong.

    Initial loss, gradients against finite differences, one batch learnt by heart, dead layers, masks and shifts, the order of data,
    activations and updates, tokenizer and model, memory. Trains nothing that is kept. The exit code is 1 if a check has failed.

    RECIPE is a Python file, or file.py:function. Its dials are set as --NAME VALUE.
    """
    from bloomery.cli.doctor import examine_recipe

    dials, texts = recipe_of(recipe, ctx.args)
    if examine_recipe(dials.set(texts), context_of(**options), stage, make, "quick" if effort == "quick" else "full"):
        sys.exit(1)


@cli.command(epilog="Example: bloomery pretrain --source 'notes/*.md' --steps 300")
@click.option("--source", required=True, help="File, folder, glob, JSONL or Parquet; or any fsspec path (s3://, hf://, …).")
@click.option("--name", default="pretrain", show_default=True, help="Of the recipe and of what it makes.")
@click.option("--steps", type=click.IntRange(min=1), default=500, show_default=True, help="Optimiser steps.")
@click.option("--batch-tokens", type=click.IntRange(min=1), default=4096, show_default=True, help="Tokens per step.")
@click.option("--d-model", type=click.IntRange(min=1), default=256, show_default=True, help="Width of the model.")
@click.option("--n-layers", type=click.IntRange(min=1), default=4, show_default=True, help="Depth of the model.")
@click.option("--vocab-size", type=click.IntRange(min=1), default=4096, show_default=True, help="Tokens in the vocabulary.")
@click.option("--held-out", type=click.FloatRange(min=0, max=1, max_open=True), default=0.02, show_default=True,
              help="Share of the documents to measure on; 0 for none.")
@click.option("--dry-run", is_flag=True, help="Print the recipe and what would be made, and leave.")
@run_options
def pretrain(
    source: str, name: str, steps: int, batch_tokens: int, d_model: int, n_layers: int, vocab_size: int, held_out: float,
    dry_run: bool, **options: Any,
) -> None:
    """Train a tokenizer and a model on any text: a recipe built from a few options, printed and run."""
    from bloomery.cli.show import print_recipe, print_results, print_stages
    from bloomery.recipe import plan as plan_recipe
    from bloomery.recipe import run as run_recipe
    from bloomery.recipe.pretrain import pretrain as build
    from bloomery.text.readers import Files

    recipe = build(
        name, Files(path=source), steps=steps, batch_tokens=batch_tokens, d_model=d_model, n_layers=n_layers, vocab_size=vocab_size,
        held_out=held_out,
    )  # fmt: skip
    context = context_of(**options)
    if not context.quiet:
        print_recipe(recipe)
        print_stages(plan_recipe(recipe, context.store))
    if not dry_run:
        shape = {"source": source, "name": name, "steps": steps, "batch-tokens": batch_tokens, "d-model": d_model, "n-layers": n_layers,
                 "vocab-size": vocab_size, "held-out": held_out}  # fmt: skip
        command = ["bloomery", "pretrain", *(part for option, value in shape.items() for part in (f"--{option}", str(value)))]
        artifacts = run_recipe(recipe, context, shlex.join(command))
        if not context.quiet:
            print_results(artifacts)


@cli.command(epilog="Example: bloomery show store/Train/chat-0123456789ab")
@click.argument("artifact", required=False)
@click.option("--verify", is_flag=True, help="Compare every file with its checksum.")
@store_option
def show(artifact: str | None, verify: bool, store_path: Path) -> None:
    """Draw where ARTIFACT came from, back to its sources; without one, list the store."""
    from bloomery.cli.show import print_compared, print_lineage, print_store
    from bloomery.store import lineage

    store = store_at(store_path)
    if artifact is None:
        print_store(store)
        return
    found = artifact_of(artifact, store_path)
    tree = lineage(found.reference, store_at(found.path.parent.parent))
    if verify:
        tree.verify()
    print_lineage(tree)
    print_compared(found)


@cli.command(context_settings=RECIPE_SETTINGS, epilog="Example: bloomery diff store/quickstart.lock.json recipes/quickstart.py --steps 900")
@click.argument("before")
@click.argument("after")
@click.pass_context
def diff(ctx: click.Context, before: str, after: str) -> None:
    """Show which fields differ between two recipes (files, or lock files of past runs). Dials are set on AFTER."""
    from bloomery.cli.show import print_diff
    from bloomery.recipe import diff as diff_recipes

    texts = dial_texts(ctx.args)
    print_diff(diff_recipes(flat_of(before, {}), flat_of(after, texts)))


@cli.command(epilog="Example: bloomery models 10b")
@click.argument("name", required=False)
def models(name: str | None) -> None:
    """List architectures by name with their sizes and costs; with NAME, all fields of one and where its parameters are."""
    from bloomery.cli.models import print_model, print_models

    if name is None:
        print_models()
    else:
        print_model(name)


@cli.command("coordinate-check", epilog="Example: bloomery coordinate-check --widths 64,128,256,512 --optimizer muon --plot coordinates.svg")
@click.option("--widths", default="32,64,128,256", show_default=True, help="d_model of the models, at least two; the first is the base.")
@click.option("--n-layers", type=click.IntRange(min=1), default=2, show_default=True, help="Layers of each.")
@click.option("--steps", type=click.IntRange(min=1), default=4, show_default=True, help="Optimiser steps before measuring.")
@click.option("--optimizer", type=click.Choice(["adamw", "muon"]), default="adamw", show_default=True, help="What takes the steps.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=3e-3, show_default=True, help="At the base width.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), default=Path("coordinates.svg"), show_default=True,
              help="Where to draw it.")
def coordinate_check(widths: str, **options: Any) -> None:
    """Show how far a few steps move the activations of models of several widths, under the standard parametrisation and under µP."""
    from bloomery.cli.coordinates import check

    check(widths, **options)


@cli.command("lr-find", context_settings=RECIPE_SETTINGS, epilog="Example: bloomery lr-find recipes/quickstart.py --stage base --high 0.3")
@click.argument("recipe")
@click.option("--stage", "stage_name", help="Name of the training, where the recipe has several.")
@click.option("--low", type=click.FloatRange(min=0, min_open=True), default=1e-6, show_default=True, help="Lowest rate.")
@click.option("--high", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="Highest rate.")
@click.option("--points", type=click.IntRange(min=2), default=100, show_default=True, help="Rates to try, a step at each.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), default=Path("lr-find.svg"), show_default=True,
              help="Where to draw it.")
@run_options
@click.pass_context
def lr_find(
    ctx: click.Context, recipe: str, stage_name: str | None, low: float, high: float, points: int, plot_path: Path, **options: Any
) -> None:
    """Find a learning rate for a training of RECIPE: the rate rises with every step until the loss does.

    What the training reads is made if it is missing; the training itself is not, and nothing else is kept. RECIPE's dials are set as
    --NAME VALUE.
    """
    from bloomery.cli.lr_find import find

    dials, texts = recipe_of(recipe, ctx.args)
    find(dials.set(texts), context_of(**options), stage_name, low, high, points, plot_path)


@cli.command(
    "compare-remedies", context_settings=RECIPE_SETTINGS,
    epilog="""\b
Example: bloomery compare-remedies                           on made-up tales, in minutes
         bloomery compare-remedies --seeds 1 --steps 300
         bloomery compare-remedies my_base.py                a base, new data and suites of your own""",
)
@click.argument("recipe", required=False)
@run_options
@click.pass_context
def compare_remedies(ctx: click.Context, recipe: str | None, **options: Any) -> None:
    """Tune one base on new data plainly and with remedies against forgetting, and show what each learns and what it keeps.

    New-task gain against old-task loss with the Pareto front, over several seeds, and the line of the recipe that makes each point. Without
    RECIPE, on tales of a farm, then of a harbour. RECIPE is a Python file, or file.py:function, that ends in a Remedies. Dials are set as
    --NAME VALUE.
    """
    from bloomery.cli.remedies import compare, dials_of

    rest = list(ctx.args)
    if recipe is not None and recipe.startswith("--"):  # no recipe, but a dial
        recipe, rest = None, [recipe, *rest]
    dials = dials_of(recipe)
    compare(dials.set(dial_texts(rest)), context_of(**options))


@cli.command(epilog="Example: bloomery advise talks.jsonl store/Export/main-0123456789ab --old books/ --recipe advised.py")
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--old", type=click.Path(path_type=Path), help="Text like that of the pre-training, to be replayed.")
@click.option("--learnt", help="Tokens that MODEL has seen, where it does not say: 2T.")
@click.option("--pretrained-at", type=click.FloatRange(min=0, min_open=True), help="Highest learning rate of its pre-training, likewise.")
@click.option("--recipe", type=click.Path(path_type=Path, dir_okay=False), help="Write the recipe to this file, for bloomery run.")
@click.option("--json", "form", flag_value="json", default="table", help="As JSON.")
def advise(data: Path, model: Path, **options: Any) -> None:
    """Measure DATA beside MODEL, and say how to tune: chat or base, adapter or all weights, rate, replay, passes, capacity, memory; each with
    its number or source; and the recipe that does it.

    DATA is what a Files reader takes. MODEL is a folder as the Hugging Face hub has it, such as an Export leaves.
    """
    from bloomery.cli.advise import print_advice

    print_advice(data, model, **options)


@cli.command(epilog="Example: bloomery trace store/Train/base-0123456789ab --step 120")
@click.argument("model")
@click.option("--step", type=click.IntRange(min=1), required=True, help="The optimiser step, counted from 1.")
@store_option
def trace(model: str, step: int, store_path: Path) -> None:
    """Name the documents that were in the batch of one step of MODEL's training."""
    from bloomery.cli.show import print_trace
    from bloomery.stages.trace import documents_of_step

    artifact = artifact_of(model, store_path)
    print_trace(artifact, step, documents_of_step(artifact, step))


@cli.command(epilog="Example: bloomery crawl https://example.org/ --into crawled/ --max-pages 200")
@click.argument("seeds", nargs=-1, required=True)
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="Folder of the archive; a crawl begun there goes on.")
@click.option("--domain", "domains", multiple=True, help="Host that may be asked, with its subdomains; the seeds' own if none is named.")
@click.option("--max-pages", type=click.IntRange(min=1), default=1000, show_default=True, help="Pages to take, at most.")
@click.option("--max-depth", type=click.IntRange(min=0), default=5, show_default=True, help="Links to follow from a seed, one after the other.")
@click.option("--delay-s", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds between two requests to one host.")
@click.option("--agent", default="bloomery/0.1", show_default=True, help="What we call ourselves; add a way to reach you.")
@click.option("--addresses", type=click.Choice(["public", "any"]), default="public", show_default=True,
              help="any allows private addresses, for sites of your own.")
def crawl(seeds: tuple[str, ...], into: Path, **options: Any) -> None:
    """Fetch pages from SEEDS on, politely, into a web archive that a recipe can read."""
    from bloomery.text.readers import Crawl
    from bloomery.text.readers import crawl as fetch

    crawled = fetch(Crawl(seeds=seeds, **options), into)
    print(f"{crawled.pages} pages, {crawled.bytes} bytes in {into / 'pages.warc.gz'}; {crawled.waiting} addresses wait")
    for reason, count in sorted(crawled.left.items()):
        print(f"  left {count}: {reason}")


@cli.command(
    epilog="""\b
Examples:
  bloomery inspect Prepare/web                                      the funnel, and ten random dropped documents
  bloomery inspect Prepare/web --filter Gopher --reason words       those dropped by one filter, for one reason
  bloomery inspect Prepare/web --what-if 'Gopher.words>=30'         what another threshold would change
  bloomery inspect Prepare/web --html data.html --card README.md    the Data page, and a card for the hub"""
)
@click.argument("corpus")
@click.option("--filter", help="Only documents dropped by this filter.")
@click.option("--reason", help="Only documents dropped for a reason with this in it.")
@click.option("--search", help="Only documents with this in their text; kept ones, too.")
@click.option("--n", type=click.IntRange(min=1), default=10, show_default=True, help="How many documents to show.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which ones: another seed picks others.")
@click.option("--id", help="Tell the whole story of one document.")
@click.option("--what-if", metavar="CONDITION", help="Try another threshold: MEASURE>=NUMBER or MEASURE<=NUMBER.")
@click.option("--pairs", "show_pairs", is_flag=True, help="Show duplicates beside what they repeat.")
@click.option("--leaks", "show_leaks", is_flag=True, help="Show which test items were met, and where.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the Data page to this file.")
@click.option("--card", "card_path", type=click.Path(path_type=Path, dir_okay=False), help="Write a card for the data set to this file.")
@store_option
def inspect(corpus: str, store_path: Path, **options: Any) -> None:
    """Look at what was dropped from CORPUS, a prepared one, and why."""
    from bloomery.cli.inspect import inspect_corpus

    inspect_corpus(artifact_of(corpus, store_path), **options)
