"""LISA: a few random blocks at a time (Pan et al. 2024, arXiv:2403.17919)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import transformers

from ..models.blocks import blocks_of


@dataclass(frozen=True, kw_only=True)
class Lisa:
    """Trains embeddings, head and everything else outside the blocks always, and `blocks` of them at a time."""

    blocks: int = 2
    interval: int = 20

    def chosen(self, step: int, *, num_blocks: int, seed: int) -> list[int]:
        """Return the blocks of a step, from 0: another sample each `interval` steps, the same in every process.

        It follows from the seed and the step alone, so that a resumed run trains the same blocks.
        """
        draw = random.Random(f"{seed} {step // self.interval}")
        return sorted(draw.sample(range(num_blocks), min(self.blocks, num_blocks)))


class BlockSampler(transformers.TrainerCallback):  # type: ignore[misc]
    """Switches the blocks of a model on and off."""

    def __init__(self, model: Any, settings: Lisa, seed: int) -> None:
        """Watch over the blocks of `model`."""
        self.blocks = list(blocks_of(model))
        self.settings = settings
        self.seed = seed

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._switch(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.settings.interval == 0:
            self._switch(state.global_step)

    def _switch(self, step: int) -> None:
        chosen = self.settings.chosen(step, num_blocks=len(self.blocks), seed=self.seed)
        for number, block in enumerate(self.blocks):
            for parameter in block.parameters():
                parameter.requires_grad_(number in chosen)
                parameter.grad = None
