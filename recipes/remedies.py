"""What a fine-tune forgets, and what helps: plain tuning beside replay, EWC, L2-SP, KL to the base, LoRA, freezing and WiSE-FT."""

from __future__ import annotations

from bloomery.recipe import Recipe
from bloomery.recipe.remedies import remedies as compared


def remedies(*, seeds: int = 3, base_steps: int = 300, talk_steps: int = 700, steps: int = 150, questions: int = 600, seed: int = 0) -> Recipe:
    """Farm first, then the harbour: what each remedy learns of the new task, and what it keeps of the old one."""
    return compared(seeds=seeds, base_steps=base_steps, talk_steps=talk_steps, steps=steps, questions=questions, seed=seed)
