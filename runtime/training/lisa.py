"""LISA: a few random blocks at a time (Pan et al. 2024, arXiv:2403.17919)."""

from __future__ import annotations

import random
from dataclasses import dataclass


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
