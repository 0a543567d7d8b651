"""A model with random weights, for training from scratch: its configuration and a seed decide it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch


def random_model(
    config: Any, classes: Any, *, dtype: torch.dtype, seed: int, **options: Any
) -> Any:
    """Return the model of `config`, of one of the `classes` of transformers, with weights drawn as its family draws them.

    The weights follow from the seed alone: they are the same on all processes and under every ZeRO stage.
    """
    from transformers.initialization import no_init_weights
    from transformers.integrations import is_deepspeed_zero3_enabled

    sharded = is_deepspeed_zero3_enabled()
    # Modules draw numbers while they are built, but not under ZeRO-3, where transformers draws all of them afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with nullcontext() if sharded else no_init_weights():
            model = classes.from_config(config, dtype=dtype, **options)
        if not sharded:
            torch.manual_seed(seed)
            model.init_weights()
    return model
