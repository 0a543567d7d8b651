"""Layouts of a micro batch: a padded row for each sample, packed rows, or one row without padding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .batches import collate
from .packing import joined
from .samples import IGNORED, Sample, Samples


@dataclass(frozen=True)
class Collator:
    """Makes a micro batch of samples or of packed rows.

    Where samples share a row, `position_ids` start again with each, and there is no attention mask: from that
    transformers builds the mask that keeps them apart, or FlashAttention its sequence borders. Any mask, even one
    of ones only, would switch that off in silence.
    """

    pad_token_id: int
    pad_multiple: int = 1
    padding_free: bool = False

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the tensors of a micro batch, each `[rows, longest]` but `num_tokens`, all int64."""
        if self.padding_free:
            return self._apart([joined(samples)])
        if any(sample.parts for sample in samples):
            return self._apart(samples)
        return collate(samples, pad_token_id=self.pad_token_id, pad_multiple=self.pad_multiple)

    def _apart(self, rows: Sequence[Sample]) -> dict[str, Tensor]:
        batch = collate(rows, pad_token_id=self.pad_token_id, pad_multiple=self.pad_multiple)
        # Each token of padding is at position 0, and so a sample of its own that nothing sees.
        positions = torch.zeros_like(batch["input_ids"])
        for number, row in enumerate(rows):
            counted = torch.cat([torch.arange(length) for length in row.part_lengths])
            positions[number, : len(counted)] = counted
        num_tokens = batch.pop("attention_mask").sum()
        return {**batch, "position_ids": positions, "num_tokens": num_tokens}


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor | bool]:
    """Return what a model is called with: positions or a mask, and never both.

    A cache would also switch off the isolation of samples by their positions.
    """
    apart = "position_ids" if "position_ids" in batch else "attention_mask"
    return {"input_ids": batch["input_ids"], apart: batch[apart], "use_cache": False}


def num_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """Return the number of tokens that are no padding (int64 scalar)."""
    return batch["num_tokens"] if "num_tokens" in batch else batch["attention_mask"].sum()


def eval_batches(
    samples: Samples, collator: Collator, *, micro_size: int, rank: int, num_ranks: int
) -> list[dict[str, Tensor]]:
    """Return this process's share, padded with batches without labels so that all make the same number."""
    lengths = samples.lengths
    order = sorted(range(len(samples)), key=lambda index: int(lengths[index]))
    chunks = [order[start : start + micro_size] for start in range(0, len(order), micro_size)]
    batches = []
    for number in range(math.ceil(len(chunks) / num_ranks)):
        mine = number * num_ranks + rank
        batch = collator([samples[index] for index in chunks[min(mine, len(chunks) - 1)]])
        if mine >= len(chunks):
            batch["labels"] = torch.full_like(batch["labels"], IGNORED)
        batches.append(batch)
    return batches
