"""Layouts of a micro batch: a padded row for each sample, packed rows, or one row without padding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .batches import MicroSize, collate, shared
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
        """Return the tensors of a micro batch, each `[rows, longest]` but `num_tokens`, all int64.

        Of pairs the chosen come first, then the rejected in the same order: `[2 * samples, longest]`. Samples with a
        value (a margin, or good or bad) give `values`, fp32 `[samples]`, NaN where one has none. Where samples are
        pairs or have values, `counted` says which count, fp32 `[samples]`.
        """
        if any(sample.rejected is not None or sample.value is not None for sample in samples):
            return self._judged(samples)
        if self.padding_free:
            return self._apart([joined(samples)])
        if any(sample.parts for sample in samples):
            return self._apart(samples)
        return collate(samples, pad_token_id=self.pad_token_id, pad_multiple=self.pad_multiple)

    def _judged(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        others = [sample.rejected for sample in samples if sample.rejected is not None]
        batch = collate(
            [*samples, *others], pad_token_id=self.pad_token_id, pad_multiple=self.pad_multiple
        )
        values = [math.nan if sample.value is None else sample.value for sample in samples]
        return {
            **batch,
            "values": torch.tensor(values, dtype=torch.float32),
            "counted": torch.ones(len(samples), dtype=torch.float32),
        }

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


class Batches(Dataset[dict[str, Tensor]]):
    """A data set of micro batches, which are asked for by the indices of their samples."""

    def __init__(self, samples: Samples, collator: Collator) -> None:
        """Remember the samples, and which is the shortest."""
        self.rows = samples.rows
        self.collator = collator
        self.shortest = samples.shortest

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the tensors of a micro batch.

        For one without samples there must be something to compute, too: a sample that counts for nothing.
        """
        batch = self.collator([self.rows[index] for index in indices or [self.shortest]])
        if not indices:
            batch["labels"] = torch.full_like(batch["labels"], IGNORED)
            batch["num_tokens"] = torch.tensor(0)
            if "counted" in batch:
                batch["counted"].zero_()
        return batch


def eval_batches(
    lengths: Sequence[int], size: MicroSize, *, rank: int, num_ranks: int
) -> list[list[int]]:
    """Return the sample indices of this process's micro batches: all processes make the same number."""
    order = sorted(range(len(lengths)), key=lambda index: (-int(lengths[index]), index))
    return shared(size.cut(order, lengths), num_ranks)[rank::num_ranks]
