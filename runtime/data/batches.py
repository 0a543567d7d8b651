"""Order and batches: which samples each process sees at which step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from .packing import best_fit
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

    def finish(self, step: int) -> None:
        """Hear that all steps before `step` are done; samples that stay need not be given back."""

    def epochs_done(self, step: int) -> int:
        """Return how many epochs are complete after so many steps."""
        return step * self.global_size // len(self.lengths)

    def epoch(self, step: int) -> float:
        """Return how often the samples have been seen before `step`, on average."""
        return round(step * self.global_size / len(self.lengths), 4)

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


@dataclass(frozen=True)
class MicroSize:
    """What one forward pass of a process takes: a number of samples, or as many as fit into a number of tokens.

    Padding counts as tokens, for it takes the same room and time.
    """

    samples: int = 1
    tokens: int | None = None
    """Takes the place of `samples`."""
    pad_multiple: int = 1
    padding_free: bool = False
    together: int = 1
    """Sequences of a sample, each as long as the longest of its micro batch."""

    def cut(self, ordered: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        """Return micro batches of the samples, which come longest first.

        Raises:
            UserError: (DATA) a sample has more tokens than a micro batch takes.
        """
        if self.tokens is None:
            starts = range(0, len(ordered), self.samples)
            return [list(ordered[start : start + self.samples]) for start in starts]
        room = self.tokens // self.together // self.pad_multiple
        if not self.padding_free:
            return self._runs(ordered, lengths, room)
        bins = best_fit([lengths[n] for n in ordered], capacity=room * self.pad_multiple)
        return [[ordered[int(at)] for at in bins[row]] for row in range(len(bins))]

    def _runs(self, ordered: Sequence[int], lengths: Sequence[int], room: int) -> list[list[int]]:
        """Neighbours in length share a micro batch while its rows, all as long as the first, have room."""
        cut: list[list[int]] = []
        most = 0
        for index in ordered:
            if not cut or len(cut[-1]) >= most:
                most = room // -(-int(lengths[index]) // self.pad_multiple)
                cut.append([])
            cut[-1].append(index)
        return cut


def shared(micro_batches: Sequence[list[int]], num_ranks: int) -> list[list[int]]:
    """Return micro batches that can be dealt to the processes evenly: all must make the same number of passes.

    Those of most samples are halved. Where none is left to halve, the last are empty.
    """
    even = list(micro_batches)
    while len(even) % num_ranks:
        most = max(range(len(even)), key=lambda number: len(even[number]))
        whole = even[most]
        if len(whole) < 2:
            return [*even, *([] for _ in range(-len(even) % num_ranks))]
        middle = (len(whole) + 1) // 2
        even[most : most + 1] = [whole[:middle], whole[middle:]]
    return even


class MicroBatches:
    """The micro batches of one process over the whole training, for use as a `batch_sampler`.

    What it yields are lists of micro batches, `accumulation_steps` of them a step: each of one micro batch where a
    step has a fixed number, one with all micro batches of the step where their number varies.
    """

    def __init__(
        self,
        batches: GlobalBatches,
        *,
        num_steps: int,
        size: MicroSize,
        accumulation_steps: int,
        rank: int,
        num_ranks: int,
    ) -> None:
        """Cut each step into micro batches and deal them to the processes in turn."""
        self.batches = batches
        self.num_steps = num_steps
        self.size = size
        self.accumulation_steps = accumulation_steps
        self.rank = rank
        self.num_ranks = num_ranks

    def __len__(self) -> int:
        """Return the number of lists."""
        return self.num_steps * self.accumulation_steps

    def __iter__(self) -> Iterator[list[list[int]]]:
        """Yield the sample indices of the micro batches."""
        for step in range(self.num_steps):
            cut = self.size.cut(self.batches.step(step), self.batches.lengths)
            mine = shared(cut, self.num_ranks)[self.rank :: self.num_ranks]
            count = len(mine) // self.accumulation_steps
            yield from (mine[at : at + count] for at in range(0, len(mine), count))


def collate(
    samples: Sequence[Sample], *, pad_token_id: int, pad_multiple: int = 1
) -> dict[str, torch.Tensor]:
    """Return `input_ids`, `attention_mask` and `labels`, each int64 `[batch, longest]`, padded on the right.

    Where some tokens count more than others there are `weights` as well, fp32; where log-probabilities of a reference
    are known, `reference`, fp32, at the places of the labels. The longest row is padded to a multiple of `pad_multiple` tokens.
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
    batch = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
    if any(sample.weights is not None for sample in samples):
        batch["weights"] = weights = torch.zeros(shape, dtype=torch.float32)
        for row, sample in enumerate(samples):
            weights[row, : len(sample.input_ids)] = torch.tensor(sample.token_weights)
    if any(sample.reference is not None for sample in samples):
        batch["reference"] = torch.zeros(shape, dtype=torch.float32)
        for row, sample in enumerate(samples):
            places = 1 + labels[row, 1:].ne(IGNORED).nonzero()[:, 0]
            batch["reference"][row, places] = torch.tensor(sample.reference, dtype=torch.float32)
    return batch


def lengths_of(samples: Samples) -> list[int]:
    """Return the number of tokens of each sample, of pairs that of the longer answer: rows are padded to it."""
    return [int(length) for length in samples.longest]
