"""Time to quality: when our training reaches the held-out bits per byte that a well-tuned transformers Trainer ends with, on the same text.

    python -m bench.time_to_bpb all --work FOLDER             # everything, some six hours on two idle cores; goes on where it was killed
    python -m bench.time_to_bpb prepare --work FOLDER         # or step by step: 30 MB of novels, other novels held out, one tokenizer
    python -m bench.time_to_bpb peer --work FOLDER --lr 2e-3 --seed 0
    python -m bench.time_to_bpb ours --work FOLDER --levers muon,wsd --seed 0
    python -m bench.time_to_bpb table --work FOLDER           # medians over seeds, the ratio, each lever's share, and a plot

The novels are those of english_novels_100 in --data or BLOOMERY_DATA. Both sides train the same shape (6 layers, d_model 384, 6 heads,
d_ff 1,024, vocabulary 8,192, rows of 256 tokens; 13.8 M parameters) on the same rows of the same tokens, compiled, in fp32, and one function
measures both on the same held-out tokens. The peer is AdamW under a cosine that ends when its minutes do, its rate and its batch swept. Ours
has --share of these minutes, and levers, which are the changes in `LEVERS`; what each is worth is what is lost by leaving it out.

A side's clock is the seconds of its training steps, loading and compilation among them, measuring not. How many steps fit is measured first,
by a process of its own, which also fills torch's cache of compiled code, for both alike; it is a line of FOLDER/clock.jsonl. Every finished run
is a line of FOLDER/results.jsonl and is not done again; one that was killed begins anew. --scale 0.02 shortens the minutes for a trial; --steps
takes a number of steps instead, for comparisons by tokens on a busy machine.

What a step learns does not depend on where it is computed, but for rounding; how long it takes does. So `clock` measures the steps of all
settings on the machine in question, and --device cuda does the very steps elsewhere, in fp32, and dates them by that clock; --dated clock
does them on the machine itself, while others use it:

    python -m bench.time_to_bpb clock --work FOLDER                     # minutes, on two idle cores
    python -m bench.time_to_bpb all --work FOLDER --device cuda --jobs 6
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bench.levers import BEST, LEVERS, Way, way_of
from bench.time_table import Sides, records, table
from torch import Tensor

from bloomery.data import Cut, TokenShards
from bloomery.data.source import Packed
from bloomery.models import LlamaConfig
from bloomery.nn import SequenceLayout
from bloomery.objectives import CausalLM
from bloomery.stages.prepare import Prepare
from bloomery.stages.stage import RunContext
from bloomery.stages.tokenize import Tokenize
from bloomery.stages.tokenizer import TrainTokenizer, load_tokenizer
from bloomery.store import Store
from bloomery.text.filters import Normalise
from bloomery.text.readers import Files
from bloomery.train import Course, Manner, TrainState, train

NOVELS = "A_text/english_novels_100"
MEASURED_TOKENS = 1 << 16  # of the held-out novels, always the same
MEASURED_AT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.84, 0.88, 0.91, 0.94, 0.97, 1.0)  # of the steps
SHUFFLED = 1 << 15  # rows: more than the novels have, as the peer's loader does it
PROBE_STEPS = 8  # whose median says how many fit
PACING = ("muon", "iterations", "half_batch", "double_batch", "z_loss")  # levers that change how long a step takes
HOUSE, THIS = Path(__file__).parent.parent, (sys.executable, "-m", "bench.time_to_bpb")
LN2 = 0.6931471805599453


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What both sides train.

    Attributes:
        sizes: of the model, in our words.
        rows: in a step.
        train_bytes: of novels to train on.
        held_out_bytes: of other novels.
    """

    sizes: dict[str, int]
    rows: int
    train_bytes: int
    held_out_bytes: int

    @property
    def time(self) -> int:
        """Tokens in a row."""
        return self.sizes["max_seq_len"]


SHAPES = {
    "13m": Shape(
        sizes={"vocab_size": 8192, "d_model": 384, "n_layers": 6, "n_heads": 6, "d_ff": 1024, "max_seq_len": 256}, rows=16,
        train_bytes=30_000_000, held_out_bytes=1_000_000,
    ),
    "1m": Shape(
        sizes={"vocab_size": 2048, "d_model": 128, "n_layers": 3, "n_heads": 4, "d_ff": 352, "max_seq_len": 256}, rows=4,
        train_bytes=10_000_000, held_out_bytes=1_000_000,
    ),
    "tiny": Shape(
        sizes={"vocab_size": 300, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_ff": 64, "max_seq_len": 32}, rows=4,
        train_bytes=20_000, held_out_bytes=5_000,
    ),
}  # fmt: skip
"""By name; the first is that of the benchmark, the others are for trials."""


@dataclass(frozen=True)
class Corpus:
    """What `prepare` has left: tokens to train on, tokens held out, and how many bytes each id is."""

    train: TokenShards
    held_out: TokenShards
    byte_lengths: Tensor

    @classmethod
    def of(cls, name: str, data: Path | None, work: Path) -> Corpus:
        """That of a shape: made, or found in `work` where it was made before, which asks for no data.

        Whole novels go to training or are held out, by one shuffled list of them.
        """
        shape, known, store = SHAPES[name], work / f"corpus-{name}.json", Store(work / "store")
        if known.exists():
            *tokens, tokenizer = (store.find(reference) for reference in json.loads(known.read_text()))
            return cls(*map(TokenShards.open, tokens), torch.from_numpy(load_tokenizer(tokenizer).byte_lengths))
        if data is None:
            sys.exit("name the folder of real data with --data or BLOOMERY_DATA")
        files = sorted((data / NOVELS).glob("*_*.txt"))
        random.Random(0).shuffle(files)
        parts: list[list[str]] = []
        for limit in (shape.held_out_bytes, shape.train_bytes):
            parts.append([])
            while files and limit > 0:
                limit -= files[0].stat().st_size
                parts[-1].append(files.pop(0).name)
        if not all(parts):
            sys.exit(f"{data / NOVELS} has not enough novels in it; unpack them there, or name their folder with --data or BLOOMERY_DATA")
        context = RunContext(store=store)
        held_out, training = (
            Prepare(name=name, source=Files(path=str(data / NOVELS), include=tuple(names)), filters=(Normalise(),))
            for name, names in zip(("held_out", "training"), parts, strict=True)
        )
        tokenizer = TrainTokenizer(corpora=(training,), vocab_size=shape.sizes["vocab_size"])
        stages = [Tokenize(name=corpus.name, corpus=corpus, tokenizer=tokenizer) for corpus in (training, held_out)]
        tokens = [stage.run(context) for stage in stages]
        known.write_text(json.dumps([*(stage.reference for stage in stages), tokenizer.reference]))
        return cls(*map(TokenShards.open, tokens), torch.from_numpy(load_tokenizer(tokenizer.run(context)).byte_lengths))

    def bits_per_byte(self, logits: Callable[[Tensor], Tensor], time: int) -> float:
        """Of every so many-th row of the held-out novels, `MEASURED_TOKENS` in all, under whatever gives logits for (rows, time) tokens."""
        nats, size, every = 0.0, 0, max(1, self.held_out.tokens // MEASURED_TOKENS)
        with torch.no_grad():
            for batch in Packed(self.held_out, Cut(), time=time, seed=0).once(16 * every):
                tokens, targets, counts = batch.tokens[::every], batch.targets[::every], batch.loss_weight[::every] > 0
                found = logits(tokens)
                found, wanted = found[counts.to(found.device)], targets[counts].to(found.device)
                nats += torch.nn.functional.cross_entropy(found, wanted, reduction="sum").item()
                size += int(self.byte_lengths[targets[counts]].sum())
        return nats / (LN2 * size)


@dataclass
class Stopwatch:
    """Seconds of training steps, at some of which it measures the model: the curve is of (seconds, tokens, bits per byte)."""

    corpus: Corpus
    shape: Shape
    steps: int
    measured: bool
    clock: tuple[float, float] | None = None
    """Seconds of the first step and of each other, where they are another machine's."""

    def __post_init__(self) -> None:
        self.seconds: list[float] = []
        self.curve: list[tuple[float, int, float]] = []
        self.points = {round(share * self.steps) for share in MEASURED_AT}

    def step_done(self, seconds: float, tokens: int, logits: Callable[[Tensor], Tensor]) -> None:
        """To be called after each step with its duration; the next one sets the model to training again."""
        self.seconds.append(seconds if self.clock is None else self.clock[min(1, len(self.seconds))])
        if self.measured and len(self.seconds) in self.points:
            self.curve.append((round(sum(self.seconds), 2), tokens, round(self.corpus.bits_per_byte(logits, self.shape.time), 5)))
            print(f"step {len(self.seconds)} of {self.steps}: {self.curve[-1][0]:.0f} s, {self.curve[-1][2]:.4f} bits per byte", flush=True)


def train_ours(corpus: Corpus, shape: Shape, way: Way, steps: int, seed: int, compiled: bool, device: str, watch: Stopwatch) -> None:
    """Our loop, as `Train` runs it."""
    config = LlamaConfig(**shape.sizes, init=way.init)
    model = config.build(seed=seed).to(device)
    state = TrainState(model=model, optimizer=way.optimizer.build(model))
    source = Packed(corpus.train, Cut(shuffled=SHUFFLED), time=shape.time, seed=seed)
    course = Course(
        objective=CausalLM(z_loss=way.z_loss), schedule=way.schedule, steps=steps, rows=way.rows, ramp=way.ramp, seed=seed,
    )
    fewest = min(rows for rows, _ in (*way.ramp.levels(way.rows, shape.time), (way.rows, 0)))  # so that one shape is compiled
    for report in train(state, source, course, Manner(micro_batch=fewest, compiled=compiled, device=device)):
        watch.step_done(
            report.seconds, report.tokens,
            lambda tokens: model.eval()(tokens.to(device), SequenceLayout.rows(*tokens.shape, device=torch.device(device))),
        )  # fmt: skip


def train_peer(
    corpus: Corpus, shape: Shape, rows: int, lr: float, steps: int, seed: int, compiled: bool, device: str, watch: Stopwatch
) -> None:  # fmt: skip
    """Hugging Face Trainer: its own data loader, which shuffles the rows; its cosine, its clipping."""
    import tempfile

    from transformers import LlamaConfig as Sizes
    from transformers import LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments, set_seed

    source = Packed(corpus.train, Cut(), time=shape.time, seed=seed)
    tokens = torch.from_numpy(source.rows(0, source.arrangement.rows_per_epoch()).tokens)

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(tokens)

        def __getitem__(self, i: int) -> dict[str, Tensor]:
            return {"input_ids": tokens[i], "labels": tokens[i]}

    class Timed(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
            self.started = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
            seconds, seen = time.perf_counter() - self.started, state.global_step * rows * shape.time
            watch.step_done(seconds, seen, lambda tokens: model.eval()(input_ids=tokens.to(device)).logits)
            self.started = time.perf_counter()

    set_seed(seed)
    sizes = shape.sizes
    model = LlamaForCausalLM(Sizes(
        vocab_size=sizes["vocab_size"], hidden_size=sizes["d_model"], intermediate_size=sizes["d_ff"], num_hidden_layers=sizes["n_layers"],
        num_attention_heads=sizes["n_heads"], num_key_value_heads=sizes["n_heads"], max_position_embeddings=shape.time,
        tie_word_embeddings=True, use_cache=False, attn_implementation="sdpa",
    ))  # fmt: skip
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=rows, max_steps=steps, learning_rate=lr, weight_decay=0.1, adam_beta2=0.95,
        max_grad_norm=1.0, optim="adamw_torch_fused", lr_scheduler_type="cosine", warmup_steps=max(1, steps // 50), logging_strategy="no",
        save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=device == "cpu", torch_compile=compiled, dataloader_num_workers=0,
        seed=seed,
    )  # fmt: skip
    Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[Timed()]).train()


def run(options: argparse.Namespace) -> None:
    """One run of one side, unless it is on record: planned, trained, measured and written down."""
    shape, asked = SHAPES[options.shape], settings(options)
    if not options.probe and any(record["asked"] == asked for record in records(options.work)):
        return
    torch.set_num_threads(options.threads)
    corpus = Corpus.of(options.shape, options.data, options.work)
    steps = options.steps or planned(options)
    clock = clocked(options) if options.dated == "clock" or options.device != "cpu" else None
    watch = Stopwatch(corpus, shape, steps, measured=not options.probe, clock=clock)
    compiled = options.manner == "compiled" and options.device == "cpu"
    if options.command == "peer":
        train_peer(corpus, shape, options.rows or shape.rows, options.lr, steps, options.seed, compiled, options.device, watch)
    else:
        way = way_of(options.levers, options.rate, shape.rows, steps)
        train_ours(corpus, shape, way, steps, options.seed, compiled, options.device, watch)
    if options.probe:
        print(json.dumps({"probe": [watch.seconds[0], statistics.median(watch.seconds[1:])]}))
        return
    how = {"threads": options.threads, "torch": torch.__version__, "device": options.device}
    with (options.work / "results.jsonl").open("a") as file:
        file.write(json.dumps({"asked": asked, "steps": steps, "seconds": sum(watch.seconds), "curve": watch.curve, **how}) + "\n")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What tells a run from others."""
    own = {"lr": options.lr, "rows": options.rows} if options.command == "peer" else {
        "levers": sorted(options.levers), "rate": options.rate, "share": options.share
    }  # fmt: skip
    how = {"shape": options.shape, "minutes": options.minutes * options.scale, "steps": options.steps, "manner": options.manner}
    return {"side": options.command, "seed": options.seed, **own, **how}


def pace(options: argparse.Namespace) -> dict[str, Any]:
    """What decides how long a step takes."""
    own = {"rows": options.rows} if options.command == "peer" else {"levers": [name for name in PACING if name in options.levers]}
    return {"side": options.command, **own, "shape": options.shape, "manner": options.manner, "threads": options.threads}


def clocked(options: argparse.Namespace) -> tuple[float, float]:
    """Seconds of the first step and of each other: as a short run of another process took them, now or before."""
    if (known := next((line for line in records(options.work, "clock") if line["pace"] == pace(options)), None)) is not None:
        return known["seconds"]
    if options.device != "cpu":
        sys.exit(f"{options.work / 'clock.jsonl'} does not say how long the steps of {pace(options)} take; run `clock` where that counts")
    command = [*THIS, options.command, "--probe", "--steps", str(PROBE_STEPS + 1), *arguments_of(options)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=HOUSE).stdout.splitlines()
    seconds = next(json.loads(line)["probe"] for line in told if line.startswith('{"probe"'))
    with (options.work / "clock.jsonl").open("a") as file:
        file.write(json.dumps({"pace": pace(options), "seconds": seconds, "torch": torch.__version__}) + "\n")
    return seconds


def planned(options: argparse.Namespace) -> int:
    """How many steps fit into the minutes."""
    first, each = clocked(options)
    seconds = 60 * options.minutes * options.scale * (options.share if options.command == "ours" else 1)
    steps = max(4, int((seconds - first) / each))
    print(f"{options.command}: {first:.1f} s for the first step, {each:.3f} s for each: {steps} steps in {seconds:.0f} s", flush=True)
    return steps


def clock(options: argparse.Namespace) -> None:
    """How long the steps of everything that `everything` runs take."""
    for rows in options.sweep_rows:
        clocked(parse(["peer", "--rows", str(rows), *common_of(options)]))
    for levers in (options.levers, *leaving_out(options.levers)):
        clocked(parse(["ours", "--levers", ",".join(levers), *common_of(options)]))


def leaving_out(levers: Sequence[str]) -> list[list[str]]:
    """All but one of them, for each."""
    return [[name for name in levers if name != left_out] for left_out in levers]


def common_of(options: argparse.Namespace) -> list[str]:
    """What the runs of a benchmark share, as a command line."""
    names = ("work", "data", "shape", "minutes", "scale", "share", "threads", "manner", "device", "dated")
    given = [(name, getattr(options, name)) for name in names]
    return [word for name, value in given if value is not None for word in (f"--{name}", str(value))]


def arguments_of(options: argparse.Namespace) -> list[str]:
    """The command line of a run, but for its steps."""
    words = [*common_of(options), "--seed", str(options.seed)]
    if options.command == "peer":
        return [*words, "--lr", str(options.lr), *(["--rows", str(options.rows)] if options.rows else [])]
    return [*words, "--levers", ",".join(options.levers), "--rate", str(options.rate)]


def everything(options: argparse.Namespace) -> None:
    """The sweep of the peer's rate and rows and of our rate with the first seed, the other seeds with the best, and each lever left out."""
    levers = ",".join(options.levers)

    def all_of(*runs: Sequence[str]) -> None:
        def one(words: Sequence[str]) -> None:
            subprocess.run([*THIS, *words, *common_of(options)], check=True, cwd=HOUSE)

        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(one, runs))

    sides = Sides(options.work, options.shape, options.minutes * options.scale)
    all_of(
        *(("peer", "--lr", str(lr), "--rows", str(rows)) for rows in options.sweep_rows for lr in options.sweep_lrs),
        *(("ours", "--levers", levers, "--rate", str(rate)) for rate in options.sweep_rates),
    )
    best, rate = sides.best_peer(), str(sides.best_rate(options.levers))
    all_of(
        *(("peer", "--lr", str(best["lr"]), "--rows", str(best["rows"]), "--seed", str(seed)) for seed in range(1, options.seeds)),
        *(("ours", "--levers", levers, "--rate", rate, "--seed", str(seed)) for seed in range(1, options.seeds)),
        *(("ours", "--levers", ",".join(fewer), "--rate", rate) for fewer in leaving_out(options.levers)),
    )
    table(options)


def numbers(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Reads a list with commas."""
    return lambda text: [kind(word) for word in text.split(",") if word]


def lever(name: str) -> str:
    """A name in `LEVERS`."""
    if name not in LEVERS:
        raise argparse.ArgumentTypeError(f"there is no lever {name!r}; there are {', '.join(LEVERS)}")
    return name


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("all", "prepare", "clock", "peer", "ours", "table"))
    parser.add_argument("--work", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOOMERY_DATA"), help="the folder of real data")
    parser.add_argument("--shape", choices=SHAPES, default="13m")
    parser.add_argument("--minutes", type=float, default=25, help="the peer's")
    parser.add_argument("--share", type=float, default=0.55, help="ours of them")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all minutes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--manner", choices=("compiled", "eager"), default="compiled", help="of both sides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="instead of as many as fit")
    parser.add_argument("--lr", type=float, default=2e-3, help="the peer's")
    parser.add_argument("--rows", type=int, help="in a step of the peer's; those of the shape unless given")
    parser.add_argument("--levers", type=numbers(lever), default=list(BEST), help=f"of {', '.join(LEVERS)}")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on all our rates")
    parser.add_argument("--device", default="cpu", help="cuda does the steps there, dated by the clock of the machine in question")
    parser.add_argument("--dated", choices=("own", "clock"), default="own", help="by the clock also on the CPU, where others use it too")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, of `all` with --device cuda")
    parser.add_argument("--seeds", type=int, default=3, help="of `all`")
    parser.add_argument("--sweep-lrs", type=numbers(float), default=[5e-4, 1e-3, 2e-3], help="the peer's, of `all`")
    parser.add_argument("--sweep-rows", type=numbers(int), default=[16, 8, 4], help="the peer's, of `all`")
    parser.add_argument("--sweep-rates", type=numbers(float), default=[1.0], help="factors on our rates, of `all`")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    options.work, options.data = options.work.resolve(), options.data and options.data.resolve()
    if options.jobs > 1 and options.device == "cpu":
        parser.error("--jobs: runs side by side take time from each other, which is what is measured; leave it at 1, or give --device cuda")
    return options


def main() -> None:
    options = parse()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.command == "all":
        everything(options)
    elif options.command == "prepare":
        Corpus.of(options.shape, options.data, options.work)
    elif options.command == "table":
        table(options)
    elif options.command == "clock":
        clock(options)
    else:
        run(options)


if __name__ == "__main__":
    main()
