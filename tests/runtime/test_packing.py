"""Packing: every sample exactly once, no row over its length, almost nothing left empty, the same everywhere."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunec.runtime.data.packing import Bins, best_fit, pack
from tunec.runtime.data.samples import IGNORED, Sample, Samples
from tunec.runtime.errors import UserError

LENGTHS = Path(__file__).with_name("alpaca_lengths.json")


def rows_of(bins: Bins) -> list[list[int]]:
    return [bins[row].tolist() for row in range(len(bins))]


def efficiency(lengths: np.ndarray, bins: Bins, capacity: int) -> float:
    return float(lengths.sum()) / (len(bins) * capacity)


def realistic(count: int, seed: int = 0) -> np.ndarray:
    """Lengths as chat data have them: most of some hundred tokens, a few as long as a row."""
    drawn = np.random.default_rng(seed).lognormal(5.3, 0.9, count)
    return np.clip(drawn.astype(np.int64), 5, 2048)


def plain_best_fit(lengths: list[int], capacity: int) -> list[int]:
    """Return how full each row is, by the textbook's loop over all rows."""
    full: list[int] = []
    for size in sorted(lengths, reverse=True):
        fitting = [row for row, used in enumerate(full) if used + size <= capacity]
        if fitting:
            full[max(fitting, key=lambda row: full[row])] += size
        else:
            full.append(size)
    return sorted(full)


@given(lengths=st.lists(st.integers(0, 40), max_size=80), room=st.integers(40, 90))
def test_best_fit(lengths: list[int], room: int) -> None:
    """Each sample is in one row, none is over its room, and rows are as full as the textbook's."""
    rows = rows_of(best_fit(lengths, capacity=room))
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    full = [sum(lengths[index] for index in row) for row in rows]
    assert all(used <= room for used in full)
    assert sorted(full) == plain_best_fit(lengths, room)
    assert all(row == sorted(row) for row in rows)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_efficiency() -> None:
    """Rows of 2,048 are 99 % full over the whole set, and 97 % in a window of 10,000 samples."""
    lengths = realistic(50_000)
    assert efficiency(lengths, best_fit(lengths, capacity=2048), 2048) >= 0.99
    for start in range(0, 50_000, 10_000):
        window = lengths[start : start + 10_000]
        assert efficiency(window, best_fit(window, capacity=2048), 2048) >= 0.97


def test_speed() -> None:
    """A million samples take seconds."""
    lengths = realistic(1_000_000)
    started = time.monotonic()
    best_fit(lengths, capacity=2048)
    assert time.monotonic() - started < 30


def test_too_long() -> None:
    """A sample that fits no row is refused, not cut."""
    with pytest.raises(UserError, match="9 tokens, a packed row holds 8"):
        best_fit([3, 9], capacity=8)


def samples(*lengths: int) -> Samples:
    ids = [[100 * number + at for at in range(length)] for number, length in enumerate(lengths)]
    return Samples([Sample(row, [IGNORED, *row[1:]] if row else []) for row in ids], len(lengths))


def test_rows() -> None:
    """A packed row is its samples end to end, with their lengths; the first token of each has no label."""
    packed = pack(Samples([Sample([1, 2, 3], [1, 2, 3]), Sample([7, 8], [7, 8])]), max_length=8)
    assert packed[0] == Sample([1, 2, 3, 7, 8], [IGNORED, 2, 3, IGNORED, 8], (3, 2))
    assert packed[0].num_trainable == 3
    with pytest.raises(IndexError):
        packed[1]


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=30))
def test_statistics(lengths: list[int]) -> None:
    """Lengths and trainable tokens of rows are known without reading them, and nothing is lost."""
    whole = samples(*lengths)
    packed = pack(whole, max_length=24)
    assert packed.num_samples == len(lengths)
    assert [len(row.input_ids) for row in packed] == list(packed.lengths)
    assert [row.num_trainable for row in packed] == list(packed.trainable)
    assert packed.num_tokens == whole.num_tokens
    assert packed.num_trainable == whole.num_trainable
    tokens = sorted(token for row in packed for token in row.input_ids)
    assert tokens == sorted(token for row in whole for token in row.input_ids)
    assert packed.rows[:2] == [packed[row] for row in range(min(2, len(packed)))]


def test_empty() -> None:
    """Nothing packs to nothing, and a sample without tokens costs no row a label."""
    assert len(pack(Samples([]), max_length=8)) == 0
    assert len(pack(Samples([]), max_length=8).lengths) == 0
    assert pack(samples(0, 2), max_length=8)[0].labels == [IGNORED, 101]


def test_summary() -> None:
    """The log says what packing made of the samples."""
    text = pack(samples(5, 3, 6), max_length=8).summary()
    assert text.startswith("3 rows read, 3 kept")
    assert text.endswith("packed into 2 rows of 8 (87.5 % full)")


def test_alpaca() -> None:
    """The 999 rows of LLaMA-Factory's demonstration, as long as SmolLM2 tokenizes them, fill rows of 2,048 to 99 %."""
    lengths = np.array(json.loads(LENGTHS.read_text()))
    assert len(lengths) == 999
    assert efficiency(lengths, best_fit(lengths, capacity=2048), 2048) >= 0.99
