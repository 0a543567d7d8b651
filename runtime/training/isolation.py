"""A look before training: samples that share a row must not see each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..data.layouts import Collator, model_inputs
from ..data.packing import joined
from ..data.samples import Sample
from ..errors import ExitCode, UserError

LENGTH = 5
"""Tokens of the samples that are tried."""
TOLERANCE = {torch.float32: 1e-4}
"""Largest change of a logit that rounding may make, as a share of the largest logit; 2e-2 in 16 bits."""


@torch.no_grad()
def check_isolation(
    model: Any, collator: Collator, *, rows: int, vocabulary: int, device: Any
) -> None:
    """Fail when a sample's logits depend on its neighbour in the row, or differ from those it has alone.

    Recurrent layers, models that ignore positions, and attention that takes no mask do so. Three forward passes of
    some tokens tell, on the very model that is trained and in batches of as many `rows` (two stand for more);
    all processes must call it.

    Raises:
        UserError: (ENVIRONMENT) the model would learn from mixed samples.
    """
    model.eval()
    seen = [
        _logits(model, collator, start, min(rows, 2), vocabulary, device) for start in (None, 1, 5)
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


def _logits(
    model: Any, collator: Collator, before: int | None, rows: int, vocabulary: int, device: Any
) -> Tensor:
    """Return the logits of a sample that may stand behind another one in its row, `[LENGTH, vocabulary]`."""
    others = [] if before is None else [_sample(before, vocabulary)]
    looked_at = joined([*others, _sample(9, vocabulary)])
    # Further rows are longer, so that the one that is looked at is also padded.
    longer = joined([_sample(start, vocabulary) for start in (2, 3, 4)])
    batch = collator([looked_at, *[longer] * (rows - 1)])
    inputs = {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in model_inputs(batch).items()
    }
    logits: Tensor = model(**inputs).logits
    start = len(others) * LENGTH
    return logits[0, start : start + LENGTH]
