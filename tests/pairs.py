"""Pairs and judged answers of a toy vocabulary, and their log-probabilities by whole logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from toy import VOCABULARY

from tunec.runtime.data.layouts import Collator
from tunec.runtime.data.samples import IGNORED, Sample


def answered(prompt: Sequence[int], length: int, generator: torch.Generator) -> Sample:
    """Return a prompt with a random answer of that length."""
    answer = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
    return Sample([*prompt, *answer], [*[IGNORED] * len(prompt), *answer])


def pairs(*lengths: tuple[int, int, int]) -> list[Sample]:
    """Return pairs of so many tokens: of the prompt, of the chosen answer and of the rejected one."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for prompt, chosen, rejected in lengths:
        asked = torch.randint(3, VOCABULARY, (prompt,), generator=generator).tolist()
        good, bad = (answered(asked, length, generator) for length in (chosen, rejected))
        found.append(Sample(good.input_ids, good.labels, rejected=bad))
    return found


UNEVEN = ((3, 5, 2), (1, 2, 7), (6, 1, 3), (2, 4, 4))
"""Answers of which now the one, now the other is longer."""


def judged(*answers: tuple[int, int, int], seed: int = 12) -> list[Sample]:
    """Return answers: tokens of the prompt, tokens of the answer, and 1 for a good one or 0 for a bad one."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for prompt, length, value in answers:
        asked = torch.randint(3, VOCABULARY, (prompt,), generator=generator).tolist()
        sample = answered(asked, length, generator)
        found.append(Sample(sample.input_ids, sample.labels, value=float(value)))
    return found


def batch_of(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Return a padded batch."""
    return Collator(pad_token_id=2)(samples)


def answer_log_probs(model: Any, batch: dict[str, Tensor]) -> list[Tensor]:
    """Return the log-probabilities of the answer's tokens in each row, by whole logits."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    everything = logits.log_softmax(-1)
    rows = []
    for row, labels in enumerate(batch["labels"].tolist()):
        places = [at for at, label in enumerate(labels) if label != IGNORED]
        rows.append(torch.stack([everything[row, at - 1, labels[at]] for at in places]))
    return rows
