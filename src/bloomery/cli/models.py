"""The verb `models`: which architectures there are by name, and what one costs."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from bloomery.cli.show import console
from bloomery.core.config import flatten, to_plain
from bloomery.core.units import human_bytes, human_count
from bloomery.models import FAMILIES, ModelConfig
from bloomery.models.presets import PRESETS, preset
from bloomery.models.transformer import NamedConfig

TRAINING_BYTES = 16  # per parameter: weight, gradient and two moments in fp32


def print_models() -> None:
    """A line per preset; then the families that checkpoints may be of."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "layers", "width", "parameters", "active", "to train", "FLOP/token"):
        table.add_column(heading, justify="left" if heading == "name" else "right", no_wrap=True)
    for name, config in PRESETS.items():
        active = config.n_active_params if isinstance(config, NamedConfig) else config.n_params
        sparse = human_count(active) if active < config.n_params else ""
        table.add_row(*(Text(cell) for cell in (
            name, str(config.n_layers), str(config.d_model), human_count(config.n_params), sparse,
            human_bytes(config.n_params * TRAINING_BYTES), human_count(config.flops_per_token(config.max_seq_len)),
        )))  # fmt: skip
    console.print(table)
    console.print(Text("those called by a size are Llamas; active: parameters that a token meets, where experts share the others", "dim"))
    console.print(Text("to train: weights, gradients and AdamW's two moments in fp32, without activations", "dim"))
    console.print(Text(f"read from and written to hub folders: {', '.join(FAMILIES)}", "dim"))


def print_model(name: str) -> None:
    """All fields of a preset, and where its parameters are."""
    config = preset(name)
    for field in type(config).model_fields:
        for path, value in flatten(to_plain(getattr(config, field), field), field).items():
            console.print(Text(f"  {path}: {value}"))
    console.print(Text(f"{config.n_params:,} parameters", "bold"))
    for part, count in parameters_by_part(config).items():
        console.print(Text(f"  {part}: {count:,} ({count / config.n_params:.1%})"))


def parameters_by_part(config: ModelConfig) -> dict[str, int]:
    """Parameters by the outermost modules of the model; tied ones count where they occur first."""
    import torch

    with torch.device("meta"):
        model = config.skeleton()
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts
