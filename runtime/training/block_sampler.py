"""The callback behind LISA: switches blocks on and off between steps."""

from __future__ import annotations

from typing import Any

import transformers

from ..models.blocks import blocks_of
from .lisa import Lisa


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
