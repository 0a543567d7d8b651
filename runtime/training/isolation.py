"""A look before training: samples that share a row must not see each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..data.layouts import Collator, model_inputs
from ..data.samples import Sample
from ..errors import ExitCode, UserError

LENGTH = 5
"""Tokens of the samples that are tried."""
TOLERANCE = {torch.float32: 1e-4}
"""Largest change of a logit that rounding may make, as a share of the largest logit; 2e-2 in 16 bits."""


@torch.no_grad()
def check_isolation(model: Any, collator: Collator, *, vocabulary: int, device: Any) -> None:
    """Fail when a sample's logits depend on its neighbour in the row, or differ from those it has alone.

    Recurrent layers, models that ignore positions, and attention that takes no mask do so. Two forward passes of
    a few tokens tell, on the very model that is trained; all processes must call it.

    Raises:
        UserError: (ENVIRONMENT) the model would learn from mixed samples.
    """
    model.eval()
    apart = Collator(collator.pad_token_id, padding_free=True)
    seen = [
        _logits(model, apart([*before, _sample(9, vocabulary)]), device)
        for before in ([], [_sample(1, vocabulary)], [_sample(5, vocabulary)])
    ]
    model.train()
    bound = TOLERANCE.get(seen[0].dtype, 2e-2) * float(seen[0].abs().max())
    if max(float((other - seen[0]).abs().max()) for other in seen[1:]) > bound:
        raise UserError(
            "this model lets samples that share a row see each other",
            help='set `data.packing = "off"`, or choose another `model.attention`',
            code=ExitCode.ENVIRONMENT,
        )


def _sample(start: int, vocabulary: int) -> Sample:
    ids = [(start * (number + 3)) % vocabulary for number in range(LENGTH)]
    return Sample(ids, ids, (LENGTH,))


def _logits(model: Any, batch: dict[str, Tensor], device: Any) -> Tensor:
    """Return the logits of the last sample, `[LENGTH, vocabulary]`."""
    inputs = {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in model_inputs(batch).items()
    }
    logits: Tensor = model(**inputs).logits
    return logits[0, -LENGTH:]
