"""Tokenized samples and the statistics users should see before any training."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..errors import ExitCode, UserError
from .encode import Encoded

IGNORED = -100
"""Label of a token that carries no loss (the value PyTorch's cross-entropy ignores)."""


@dataclass(frozen=True)
class Sample:
    """One sample: token ids and, for each, itself as label or `IGNORED`."""

    input_ids: list[int]
    labels: list[int]
    parts: tuple[int, ...] = ()
    """Lengths of the samples that share this row, where it is a packed one."""
    weights: list[float] | None = None
    """How much the loss of each token counts; None where each counts once."""
    rejected: Sample | None = None
    """The worse of two answers to the same prompt, where this is the better one."""
    reference: list[float] | None = None
    """Log-probabilities that a reference gave its tokens with a label (all but the first token), where they are known."""
    value: float | None = None
    """How much better it is (a margin); or of a single answer 1 for a good one, 0 for a bad one."""

    @property
    def part_lengths(self) -> tuple[int, ...]:
        """Lengths of the samples in this row: its own where it is not a packed one."""
        return self.parts or (len(self.input_ids),)

    @property
    def token_weights(self) -> list[float]:
        """How much the loss of each token counts."""
        return self.weights or [float(label != IGNORED) for label in self.labels]

    @property
    def num_trainable(self) -> int:
        """Tokens that carry loss; the first token is never predicted."""
        return sum(label != IGNORED for label in self.labels[1:])

    @property
    def num_tokens(self) -> int:
        """Tokens of all its sequences."""
        return len(self.input_ids) + (self.rejected.num_tokens if self.rejected else 0)


def sample_of(sequences: Sequence[Encoded], value: float | None = None) -> Sample:
    """Return a sequence as a sample, or the chosen and the rejected one of a pair."""
    found = sequences[0]
    ids = found.tokens.astype(np.int64)
    return Sample(
        ids.tolist(),
        np.where(found.loss, ids, IGNORED).tolist(),
        weights=None if found.weights is None else found.weights.tolist(),
        rejected=sample_of(sequences[1:]) if len(sequences) > 1 else None,
        value=value,
    )


@dataclass(frozen=True)
class Samples:
    """A tokenized data set."""

    rows: Sequence[Sample]
    num_read: int = 0
    num_truncated: int = 0
    num_dropped: int = 0
    warnings: tuple[str, ...] = field(default=())
    sets: Mapping[str, Samples] = field(default_factory=dict, kw_only=True)
    """Its parts by name, where each is to be evaluated by itself as well."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    @property
    def num_samples(self) -> int:
        """Samples, also where several share a row."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample."""
        return self.rows[index]

    def __iter__(self) -> Iterator[Sample]:
        """Iterate over the samples."""
        return iter(self.rows)

    @cached_property
    def lengths(self) -> Sequence[int]:
        """Number of tokens of each sample."""
        # Prepared rows know it without being read.
        known: Sequence[int] | None = getattr(self.rows, "lengths", None)
        return [row.num_tokens for row in self.rows] if known is None else known

    @cached_property
    def longest(self) -> Sequence[int]:
        """Number of tokens of the longest sequence of each sample."""
        known: Sequence[int] | None = getattr(self.rows, "longest", None)
        if known is not None:
            return known
        if self.num_together == 1:
            return self.lengths
        return [max(len(r.input_ids), len(r.rejected.input_ids) if r.rejected else 0) for r in self]

    @property
    def num_together(self) -> int:
        """Sequences of a sample that stand in one forward pass: two of a pair."""
        known: int | None = getattr(self.rows, "num_together", None)
        if known is None:
            return 1 + (len(self) > 0 and self.rows[0].rejected is not None)
        return known

    @cached_property
    def trainable(self) -> Sequence[int]:
        """Number of tokens that carry loss in each sample."""
        known: Sequence[int] | None = getattr(self.rows, "trainable", None)
        return [row.num_trainable for row in self.rows] if known is None else known

    @property
    def shortest(self) -> int:
        """Index of the shortest sample, 0 where there is none."""
        lengths = self.lengths
        return min(range(len(self)), key=lambda index: int(lengths[index]), default=0)

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples."""
        return int(sum(self.lengths))

    @property
    def num_trainable(self) -> int:
        """Tokens that carry loss."""
        return int(sum(self.trainable))

    @property
    def num_without_loss(self) -> int:
        """Samples without a single token that carries loss."""
        return sum(int(count == 0) for count in self.trainable)

    def summary(self) -> str:
        """Return the line that is logged before training."""
        lengths = sorted(int(length) for length in self.lengths)
        middle = lengths[len(lengths) // 2] if lengths else 0
        share = 100 * self.num_trainable / max(self.num_tokens, 1)
        parts = [
            f"{self.num_read:,} rows read",
            f"{len(self.rows):,} kept",
            f"{self.num_truncated:,} truncated",
            f"{self.num_dropped:,} dropped",
            f"{self.num_without_loss:,} without loss",
            f"{self.num_tokens:,} tokens ({share:.0f} % carry loss)",
            f"length {middle} median, {lengths[-1] if lengths else 0} longest",
        ]
        return ", ".join(parts)


def split(samples: Samples, *, eval_rows: int | float, seed: int) -> tuple[Samples, Samples]:
    """Return (training, evaluation) samples; the evaluation rows are drawn at random, the same for a seed.

    `eval_rows` is a count, or a fraction below 1 of all samples (at least one).

    Raises:
        UserError: (DATA) nothing would be left to train on.
    """
    chosen = set(held_out(len(samples), eval_rows, seed))
    kept = [row for index, row in enumerate(samples.rows) if index not in chosen]
    held = [row for index, row in enumerate(samples.rows) if index in chosen]
    train = replace(samples, rows=kept, num_read=samples.num_read - len(chosen))
    return train, Samples(held, len(chosen))


def held_out(total: int, eval_rows: int | float, seed: int) -> list[int]:
    """Return the samples that are held out for evaluation, drawn at random and in order.

    Raises:
        UserError: (DATA) nothing would be left to train on.
    """
    num_eval = eval_rows if isinstance(eval_rows, int) else max(1, round(eval_rows * total))
    if num_eval >= total:
        raise UserError(
            f"{num_eval:,} evaluation rows leave none of {total:,} to train on",
            help="lower `data.eval_rows`",
            code=ExitCode.DATA,
        )
    return sorted(random.Random(seed).sample(range(total), num_eval))
