"""Answers to other prompts: what KTO estimates its reference point from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import overload

import numpy as np

from ..errors import ExitCode, UserError
from .prepared import Integers
from .samples import IGNORED, Sample, Samples


class MismatchedRows(Sequence[Sample]):
    """Samples, each with its prompt and the answer of another one as `rejected`."""

    def __init__(self, samples: Samples, *, max_length: int, seed: int) -> None:
        """Draw whose answer follows whose prompt: each answer is used once, and never after its own prompt."""
        self.samples = samples
        self.max_length = max_length
        self.answers = cycle(len(samples), seed)
        self.trainable = samples.trainable

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.samples)

    @cached_property
    def prompts(self) -> Integers:
        """Number of tokens before the answer of each sample, int64 `[samples]`."""
        known: Integers | None = getattr(self.samples.rows, "prompts", None)
        return np.array([prompt_of(row) for row in self.samples]) if known is None else known

    @cached_property
    def mismatched_lengths(self) -> Integers:
        """Number of tokens of each prompt with the answer of another sample, int64 `[samples]`."""
        answers = np.asarray(self.samples.lengths, np.int64) - self.prompts
        return np.minimum(self.prompts + answers[self.answers], self.max_length)

    @property
    def lengths(self) -> Integers:
        """Number of tokens of each sample, both sequences together, int64 `[samples]`."""
        return np.asarray(self.samples.lengths, np.int64) + self.mismatched_lengths

    @property
    def longest(self) -> Integers:
        """Number of tokens of the longer sequence of each sample, int64 `[samples]`."""
        return np.maximum(np.asarray(self.samples.lengths, np.int64), self.mismatched_lengths)

    @property
    def num_together(self) -> int:
        """Sequences of a sample in one forward pass: both take turns."""
        return 1

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        """Return a sample, or several."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        sample, other = self.samples[index], self.samples[int(self.answers[index])]
        return replace(sample, rejected=exchanged(sample, other, self.max_length))


def mismatch(samples: Samples, *, max_length: int, seed: int) -> Samples:
    """Return the samples, each with its prompt before the answer of another one as well.

    Together at most `max_length` tokens: the end of a longer one is cut. The answers are dealt over the whole set,
    the same for a seed.

    Raises:
        UserError: (DATA) there is one sample alone.
    """
    if len(samples) == 1:
        raise UserError(
            "KTO needs two samples at least: it compares answers with those to other prompts",
            help="add rows",
            code=ExitCode.DATA,
        )
    return replace(
        samples,
        rows=MismatchedRows(samples, max_length=max_length, seed=seed),
        warnings=(*samples.warnings, *_warnings(samples)),
        sets={
            name: mismatch(each, max_length=max_length, seed=seed)
            for name, each in samples.sets.items()
        },
    )


def _warnings(samples: Samples) -> list[str]:
    known = getattr(samples.rows, "values", None)
    values = [sample.value for sample in samples] if known is None else known
    good = sum(int(value == 1) for value in values)
    if good in (0, len(values)) and len(values):
        kind = "good" if good else "bad"
        return [
            f"all {len(values):,} samples are labelled {kind}: there is nothing to compare them with"
        ]
    return []


def cycle(count: int, seed: int) -> Integers:
    """Return for each number another one, each once: all follow each other in one random circle."""
    order = np.array(random.Random(f"mismatch {seed}").sample(range(count), count), np.int64)
    following = np.empty(count, np.int64)
    following[order] = np.roll(order, 1)
    return following


def prompt_of(sample: Sample) -> int:
    """Return the number of tokens before the answer: the first token that carries loss."""
    return next((at for at, label in enumerate(sample.labels) if label != IGNORED), 0)


def exchanged(sample: Sample, other: Sample, max_length: int) -> Sample:
    """Return the prompt of a sample before the answer of another one, at most `max_length` tokens."""
    start, begin = prompt_of(sample), prompt_of(other)
    ids = [*sample.input_ids[:start], *other.input_ids[begin:]]
    labels = [*sample.labels[:start], *other.labels[begin:]]
    return Sample(ids[:max_length], labels[:max_length])
