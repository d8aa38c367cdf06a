"""The verbs that ask a model to write: `chat`, `generate` and `serve`. Heavy imports stand inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bloomery.cli.given import artifact_of, device_of
from bloomery.cli.options import cache_option, draft_option, rule_options, store_option, weights_option


@click.command(epilog="Example: bloomery chat store/Train/chat-0123456789ab --temperature 0")
@click.argument("model")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.7, show_default=True, help="0 takes the likeliest token each time.")
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), default=0.95, show_default=True,
              help="Keep the likeliest tokens up to this mass.")  # fmt: skip
@click.option("--min-p", type=click.FloatRange(min=0, max=1), default=0.0, show_default=True,
              help="Leave out tokens less than so likely beside the likeliest.")  # fmt: skip
@rule_options
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--say", multiple=True, help="Say this and leave; may be given several times, one turn each.")
@click.option("--raw", is_flag=True, help="Go on with the text as it stands, without the chat template.")
@store_option
def chat(model: str, store_path: Path, **options: Any) -> None:
    """Talk to MODEL in the terminal; the answer streams. An empty line or Ctrl-D ends it, /new starts afresh."""
    from bloomery.cli.chat import converse

    converse(artifact_of(model, store_path), **options)


@click.command(
    epilog="""\b
Example: bloomery generate Train/chat --prompts questions.txt --output answers.jsonl --by 'Random(temperature=0.8)' --samples 4
         bloomery generate Train/chat --prompts questions.txt --rule 'Json(matching={"enum": ["yes", "no"]})'
         bloomery generate Train/chat --by 'Beam(n_beams=4)' --rule 'NoRepeatNGram(n=3)' --stop Q: < questions.txt""",
)
@click.argument("model")
@click.option("--prompts", type=click.File(encoding="utf-8"), default="-", help="One a line: a text, or a JSON object with \"prompt\" or "
              "\"messages\", whose other fields are kept; read from the standard input if not given.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="JSON lines, one for each text; what is there already is not "
              "written again. They are printed if it is not given.")  # fmt: skip
@click.option("--by", default="Greedy", show_default=True, metavar="VALUE", help="How tokens are picked, as in a recipe: "
              "Random(temperature=0.8, top_p=0.95, top_k=…, min_p=…, typical_p=…), Beam(n_beams=4, …), Contrastive(top_k=5, alpha=0.6).")
@rule_options
@click.option("--contrast", metavar="VALUE", help="DoLa(layers='high'): take off what an earlier layer would say.")
@draft_option
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Texts to each prompt.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--raw", is_flag=True, help="Go on with each text as it stands, without the chat template.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="What to compute on.")
@weights_option
@cache_option
@store_option
def generate(
    model: str, store_path: Path, prompts: Any, by: str, rules: tuple[str, ...], contrast: str | None, stops: tuple[str, ...],
    draft: str | None, max_new_tokens: int, device: str, **options: Any,
) -> None:
    """Have MODEL write to many prompts. Each text depends on its prompt, the options and the seed, not on what is written beside it; the same
    command goes on where it was interrupted."""
    from bloomery.cli.generate import decoding_of, drafter_of
    from bloomery.cli.generate import generate as write

    decoding = decoding_of(by, rules, contrast, stops, max_new_tokens, drafter_of(draft, store_path))
    write(artifact_of(model, store_path), prompts, decoding, device=device_of(device), **options)


@click.command(epilog="""\b
What a request may say of how a text is written; what is left out does nothing:
  temperature  top_p  top_k  min_p  typical_p       what is drawn; temperature 0, or do_sample false, takes the likeliest token
  presence_penalty  frequency_penalty               taken off what was written, once or each time
  repetition_penalty                                what was read or written is divided by
  no_repeat_ngram_size  no_repeat_sentences         nothing is said twice: so many tokens in a row; true: sentences
  logit_bias                                        {"token id": -100 … 100}, added to scores
  num_beams (or use_beam_search)  length_penalty    the likeliest text of some that are followed side by side;
  early_stopping  do_sample                         true, false or "never"; true draws the ways to go on
  num_beam_groups  diversity_penalty                groups of beams that avoid what those before them have just said
  penalty_alpha  top_k                              contrastive search: of top_k tokens the one that repeats least
  dola_layers  dola_relative_top                    "low", "high" or numbers: what earlier layers would say is taken off
  guided_choice  guided_regex  guided_json          what the text is held to; so is response_format
  stop  n  seed  max_tokens                         strings that end it; how many texts; what is drawn; its longest
  logprobs  top_logprobs  logprobs_mode             of each token, by the model, or by what is drawn from: "processed_logprobs"
  return_token_ids                                  true: the ids of the prompt and the text, too

\b
Searches (num_beams, penalty_alpha) take turns with the texts of others, which go on at about half their pace meanwhile; one that is
streamed comes as one piece, in the end.

\b
Example: bloomery serve Train/chat
         curl -s localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\
              -d '{"model": "chat", "messages": [{"role": "user", "content": "Hello!"}], "num_beams": 4}'""")
@click.argument("model")
@click.option("--name", default=None, help="What clients call it; that of its stage unless given.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; any but this machine itself needs --key-file.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="API keys, one in each line.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="What to compute on.")
@weights_option
@cache_option
@draft_option
@click.option("--rows", type=click.IntRange(min=1), default=32, show_default=True, help="Texts under way at a time.")
@click.option("--beams", type=click.IntRange(min=1), default=16, show_default=True, help="Ways that searches (num_beams, penalty_alpha) may "
              "follow at once, all together, each with room of its own for a whole text.")  # fmt: skip
@click.option("--queued", type=click.IntRange(min=0), default=256, show_default=True, help="Texts that may wait; more are told to come again.")
@click.option("--capacity", type=click.IntRange(min=2), help="Tokens of a prompt and its answer at most; what the model reads unless given.")
@click.option("--pool", type=click.IntRange(min=2), help="Tokens that all texts have room for together, in pages; each of the rows has room "
              "for the longest unless given, which is faster and takes more memory.")  # fmt: skip
@click.option("--remembers", type=click.IntRange(min=0), default=16_384, show_default=True,
              help="Tokens of texts that are done with whose states are kept, for prompts that begin alike.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=600, show_default=True, help="That a request may take.")
@click.option("--body-mib", type=click.FloatRange(min=0, min_open=True), default=4, show_default=True, help="Size of a request at most.")
@click.option("--takes-weights", is_flag=True, help="Write with weights that a training sends, from its next round on, until others come: for "
              "a rollout with engine=BloomeryEngine().")  # fmt: skip
@click.option("--grace", type=click.FloatRange(min=0), default=30, show_default=True, help="Seconds for what is under way when it ends.")
@store_option
def serve(model: str, store_path: Path, device: str, draft: str | None, **options: Any) -> None:
    """Answer as OpenAI's API does: chat, completions, embeddings, models; and /health, and /metrics for Prometheus.

    It is reached from this machine only, unless --host says otherwise.
    """
    from bloomery.cli.generate import drafter_of
    from bloomery.cli.serve import serve as serve_model

    serve_model(artifact_of(model, store_path), device=device_of(device), draft=drafter_of(draft, store_path), **options)
