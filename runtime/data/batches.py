"""Order and batches: which samples each process sees at which step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .samples import IGNORED, Sample, Samples

GROUPS_SORTED = 50
"""Steps within which samples are sorted by length, where they are."""


class GlobalBatches:
    """Sample indices of every step, the same for every number of processes.

    The training rows are visited in one random order after another, an order for each epoch, as one endless
    stream; step `s` takes the next `global_size` of it. Inside a step the samples are sorted by length, so
    that a micro batch holds little padding: the loss of a step is one sum over all its tokens, which the order
    inside the step does not change.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        global_size: int,
        seed: int,
        shuffle: bool,
        group_by_length: bool = False,
    ) -> None:
        """Remember the sample lengths; orders are drawn when they are needed."""
        self.lengths = lengths
        self.global_size = global_size
        self.seed = seed
        self.shuffle = shuffle
        self.group_by_length = group_by_length
        self._orders: dict[int, list[int]] = {}

    def step(self, number: int) -> list[int]:
        """Return the indices of step `number` (from 0), longest sample first."""
        start = number * self.global_size
        chosen = [self._at(position) for position in range(start, start + self.global_size)]
        return sorted(chosen, key=lambda index: (-self.lengths[index], index))

    def _at(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.lengths))
        if epoch not in self._orders:
            self._orders = {
                past: order for past, order in self._orders.items() if past >= epoch - 1
            }
            self._orders[epoch] = self._order(epoch)
        return self._orders[epoch][offset]

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        rows = len(self.lengths)
        order = list(range(rows))
        if self.shuffle:
            order = torch.randperm(rows, generator=generator).tolist()
        if not self.group_by_length:
            return order
        # The first of an epoch complete the step in which the epoch before it ended.
        begun = -epoch * rows % self.global_size
        grouped = group_by_length(order[begun:], self.lengths, size=self.global_size)
        if self.shuffle:
            grouped = [grouped[n] for n in torch.randperm(len(grouped), generator=generator)]
            # A step of its full size must not begin in the middle of another.
            grouped.sort(key=lambda group: len(group) < self.global_size)
        return [*order[:begun], *(index for group in grouped for index in group)]


def group_by_length(order: Sequence[int], lengths: Sequence[int], *, size: int) -> list[list[int]]:
    """Return groups of `size` samples of similar length, the last perhaps smaller.

    Samples are sorted within a window of some groups, not over the whole set: the order stays mostly random.
    """
    window = size * GROUPS_SORTED
    groups = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda index: -int(lengths[index]))
        groups += [near[at : at + size] for at in range(0, len(near), size)]
    return groups


class MicroBatches:
    """The micro batches of one process over the whole training, for use as a `batch_sampler`."""

    def __init__(
        self, batches: GlobalBatches, *, num_steps: int, micro_size: int, rank: int, num_ranks: int
    ) -> None:
        """Cut each step into micro batches and deal them to the processes in turn."""
        self.batches = batches
        self.num_steps = num_steps
        self.micro_size = micro_size
        self.rank = rank
        self.num_ranks = num_ranks
        self.accumulation_steps = batches.global_size // (micro_size * num_ranks)

    def __len__(self) -> int:
        """Return the number of micro batches of this process."""
        return self.num_steps * self.accumulation_steps

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the sample indices of each micro batch."""
        for step in range(self.num_steps):
            chosen = self.batches.step(step)
            for turn in range(self.accumulation_steps):
                first = (turn * self.num_ranks + self.rank) * self.micro_size
                yield chosen[first : first + self.micro_size]


def collate(
    samples: Sequence[Sample], *, pad_token_id: int, pad_multiple: int = 1
) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `attention_mask` and `labels`, each int64 `[batch, longest]`, padded on the right.

    The longest row is padded to a multiple of `pad_multiple` tokens.
    """
    longest = max(len(sample.input_ids) for sample in samples)
    longest = -(-longest // pad_multiple) * pad_multiple
    shape = (len(samples), longest)
    input_ids = torch.full(shape, pad_token_id, dtype=torch.long)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    for row, sample in enumerate(samples):
        length = len(sample.input_ids)
        input_ids[row, :length] = torch.tensor(sample.input_ids)
        attention_mask[row, :length] = 1
        labels[row, :length] = torch.tensor(sample.labels)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def lengths_of(samples: Samples) -> list[int]:
    """Return the number of tokens of each sample."""
    return [int(length) for length in samples.lengths]
