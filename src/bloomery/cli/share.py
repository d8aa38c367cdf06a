"""The verbs `export`, `import` and `push`: models to others and from others. Heavy imports stand inside."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import click

from bloomery.cli.given import artifact_of, store_at
from bloomery.cli.options import store_option
from bloomery.core.errors import ConfigError, DataError, ResourceError

NO_MEASUREMENTS = ("Train", "Convert", "Soup", "Ensemble", "Export", "Report", "Import")  # stages that take a model and make no figures of it
FOR_MODELS = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")  # what is downloaded: nothing that could run


@click.command(
    epilog="""\b
Example: bloomery export Train/chat shared/chat --weights bf16 --gguf q8_0 --licence apache-2.0
         bloomery export Train/low shared/low --as adapter""",
)
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--as", "form", type=click.Choice(["hub", "adapter"]), default="hub", show_default=True,
              help="All of it as the hub lays it out; or the adapter alone that was trained.")  # fmt: skip
@click.option("--weights", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True, help="What weights are rounded to.")
@click.option("--gguf", multiple=True, type=click.Choice(["f32", "f16", "bf16", "q8_0", "q4_0"]),
              help="Write a file for llama.cpp, too, its matrices in this type; may be given several times.")  # fmt: skip
@click.option("--prompt", "prompts", multiple=True, help="A question whose answer the demo page shows; those that were watched in training "
              "unless given.")  # fmt: skip
@click.option("--licence", default="", help="The hub's word for it, for the card: apache-2.0.")
@store_option
def export(model: str, folder: Path, form: str, store_path: Path, licence: str, **options: Any) -> None:
    """Write MODEL to FOLDER, which must be new, for others to read: weights, tokenizer, card, cards of its data, a page to try it on.

    All that is written is read back and compared with the model, by transformers too where that is installed.
    """
    from bloomery.core.units import human_bytes

    artifact, store = artifact_of(model, store_path), store_at(store_path)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is there already and not empty; give a new folder")
    making = folder.with_name(f"{folder.name}.writing")
    shutil.rmtree(making, ignore_errors=True)
    try:
        if form == "adapter":
            _adapter(making, artifact, store, licence, options)
        else:
            _whole(making, artifact, store, licence, **options)
        if folder.exists():
            folder.rmdir()
        os.replace(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    click.secho(f"{folder}: {human_bytes(size)}", bold=True)
    page = "" if form == "adapter" else f"look at {folder / 'demo.html'}; "
    click.secho(f"    try: {page}bloomery push {folder} OWNER/NAME", fg="green")


def _whole(folder: Path, artifact: Any, store: Any, licence: str, weights: Any, gguf: Any, prompts: tuple[str, ...]) -> None:
    from bloomery.stages.sharing.beside import through_transformers
    from bloomery.stages.sharing.folder import Sharing, write_folder

    watched = artifact.manifest.fields.get("watch", {}).get("prompts", [])
    sharing = Sharing(written=weights, gguf=gguf, prompts=prompts or tuple(watched), licence=licence)
    measured = [
        one for one in store.artifacts()
        if artifact.reference in one.manifest.inputs.values() and one.manifest.stage not in NO_MEASUREMENTS
    ]  # fmt: skip
    write_folder(folder, artifact, sharing, store, click.echo, measured)
    if (folder / "adapter").exists():
        return
    beside = through_transformers(folder)
    if beside is None:
        click.echo(f"{artifact.reference}: transformers is not installed, so that it was not asked")
    else:
        version, difference = beside
        click.secho(f"{artifact.reference}: transformers {version} says of it what we do: {difference}" if difference.close else
                    f"{artifact.reference}: transformers {version} says something else of it: {difference}; tell those you give it to, or "
                    "look whether another version does", fg=None if difference.close else "yellow")  # fmt: skip


def _adapter(folder: Path, artifact: Any, store: Any, licence: str, options: dict[str, Any]) -> None:
    from bloomery.stages.sharing.adapter import write_adapter

    if options["gguf"] or options["prompts"] or options["weights"] != "fp32":
        raise ConfigError("--as adapter writes the adapter as it was trained; leave out --gguf, --prompt and --weights, or take --as hub")
    write_adapter(folder, artifact, store, click.echo, licence)


@click.command("import", epilog="Example: bloomery import downloads/llama --name llama && bloomery chat Import/llama --raw")
@click.argument("source")
@click.option("--name", default="main", show_default=True, help="Of what it becomes: Import/NAME-….")
@click.option("--adapter", type=click.Path(path_type=Path, exists=True, file_okay=False), help="A folder of the peft library, for this model.")
@click.option("--tokenizer", "tokenizer_path", type=click.Path(path_type=Path, exists=True), help="A tokenizer's file or folder, where SOURCE "
              "holds none.")  # fmt: skip
@click.option("--role", "roles", multiple=True, metavar="ROLE=TOKEN", help="The token for begin, end, user, assistant, system or pad, where "
              "it is not the usual one; may be given several times.")  # fmt: skip
@click.option("--revision", default="main", show_default=True, help="Of OWNER/NAME: a branch, tag or commit.")
@store_option
def import_(
    source: str, name: str, adapter: Path | None, tokenizer_path: Path | None, roles: tuple[str, ...], revision: str, store_path: Path
) -> None:
    """Take in SOURCE, a model's folder as the Hugging Face hub has it, or OWNER/NAME there: to ask it, measure it, serve it, train it."""
    from bloomery.cli.show import print_results
    from bloomery.stages.adapted import Adapted, AdapterFolder
    from bloomery.stages.imported import Import
    from bloomery.stages.init import Hub
    from bloomery.stages.stage import RunContext
    from bloomery.stages.tokenizer import LoadTokenizer
    from bloomery.text.tokenizer.loading import tokenizer_files

    store = store_at(store_path)
    folder = Path(source) if Path(source).is_dir() else downloaded(source, revision, store.root / "downloads")
    if wrong := [role for role in roles if not all(role.partition("="))]:
        raise ConfigError(f"--role {wrong[0]!r} is not ROLE=TOKEN; write --role 'end=</s>'")
    if tokenizer_path is None:
        try:
            tokenizer_files(folder)
        except DataError as error:
            raise DataError(f"{error}; --tokenizer takes the path of one") from None
    hub = Hub(path=folder)
    stage = Import(
        name=name, model=hub if adapter is None else Adapted(adapter=AdapterFolder(path=adapter), init=hub, goes_on="weights"),
        tokenizer=LoadTokenizer(path=str(tokenizer_path or folder), roles=dict(role.split("=", 1) for role in roles)),
    )  # fmt: skip
    print_results([stage.run(RunContext(store=store))])


def downloaded(name: str, revision: str, into: Path) -> Path:
    """The folder that a model of the hub is downloaded to; raises `DataError` where there is none of that name, and no such folder either."""
    if name.count("/") != 1 or not all(name.split("/")):
        raise DataError(f"{name} is no folder, and no OWNER/NAME on the hub")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import RepositoryNotFoundError
    except ModuleNotFoundError:
        raise ResourceError("downloading needs huggingface_hub, which is not installed; pip install 'bloomery[remote]'") from None
    folder = into / name.replace("/", "--") / revision
    try:
        snapshot_download(name, revision=revision, local_dir=folder, allow_patterns=list(FOR_MODELS))
    except RepositoryNotFoundError:
        raise DataError(f"{name} is no folder, and the hub has no model of that name that you may read") from None
    except Exception as error:  # what cannot be reached is told in the words of another library by each version of the client
        raise ResourceError(f"{name} could not be downloaded ({' '.join(str(error).split())}); try again, or download its files and give "
                            "their folder") from None  # fmt: skip
    return folder


@click.command(epilog="Example: bloomery push shared/chat owner/chat --visible public")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("name", metavar="OWNER/NAME")
@click.option("--visible", type=click.Choice(["private", "public"]), default="private", show_default=True,
              help="Who sees it, where it is made anew; what is there already stays as it is.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would go where, and ask nobody.")
def push(folder: Path, name: str, visible: str, dry_run: bool) -> None:
    """Put FOLDER, which `bloomery export` has written, on the Hugging Face hub, in one commit.

    The token is that of HF_TOKEN or of `hf auth login`; HF_ENDPOINT names another hub.
    """
    from bloomery.core.units import human_bytes
    from bloomery.stages.sharing.push import check_name, pushed_files
    from bloomery.stages.sharing.push import push as put

    if dry_run:
        check_name(name)
        sizes = {path.relative_to(folder): path.stat().st_size for path in pushed_files(folder)}
        for path, size in sizes.items():
            click.echo(f"{human_bytes(size):>10}  {path}")
        click.secho(f"{len(sizes)} files, {human_bytes(sum(sizes.values()))}, would go to {name}, {visible} if it is new", bold=True)
        return
    try:
        from huggingface_hub import get_token
    except ModuleNotFoundError:
        raise ResourceError("pushing needs huggingface_hub, which is not installed; pip install 'bloomery[remote]'") from None
    click.secho(put(folder, name, get_token(), visible), bold=True)
