"""Order and batches: every sample once an epoch, every step the same for any number of processes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunec.runtime.data.batches import (
    GlobalBatches,
    MicroBatches,
    MicroSize,
    collate,
    lengths_of,
    shared,
)
from tunec.runtime.data.layouts import Batches, Collator, num_tokens
from tunec.runtime.data.samples import IGNORED, Sample, Samples

LENGTHS = [7, 3, 9, 1, 4, 4, 8, 2, 6, 5, 10]


def steps_of(lengths: list[int], count: int, *, size: int = 4, seed: int = 0, shuffle: bool = True) -> list[list[int]]:  # fmt: skip
    batches = GlobalBatches(lengths, global_size=size, seed=seed, shuffle=shuffle)
    return [batches.step(number) for number in range(count)]


@given(rows=st.integers(1, 30), size=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_epochs(rows: int, size: int, seed: int) -> None:
    """Each step has the global batch size, and each epoch visits each row exactly once, across step borders."""
    steps = steps_of([1] * rows, 3 * rows, size=size, seed=seed)
    assert all(len(step) == size for step in steps)
    seen = Counter(index for step in steps for index in step)
    whole, rest = divmod(3 * rows * size, rows)
    assert rest == 0
    assert seen == dict.fromkeys(range(rows), whole)
    for number in range(1, len(steps) + 1):
        counts = Counter(index for step in steps[:number] for index in step)
        epochs = (number * size) // rows
        assert all(counts[index] - epochs in (0, 1) for index in range(rows))


def test_seed_fixes_the_order() -> None:
    """The same seed gives the same steps, another seed others, and each epoch has an order of its own."""
    first = steps_of(LENGTHS, 11)
    assert first == steps_of(LENGTHS, 11)
    assert first != steps_of(LENGTHS, 11, seed=1)
    alone = steps_of(LENGTHS, 22, size=1)
    assert alone[:11] != alone[11:]


def test_steps_can_be_asked_for_in_any_order() -> None:
    """Step n is the same whether or not the steps before it were made: a resumed run starts in the middle."""
    expected = steps_of(LENGTHS, 30)
    batches = GlobalBatches(LENGTHS, global_size=4, seed=0, shuffle=True)
    assert [batches.step(number) for number in (29, 3, 17, 0, 29)] == [
        expected[number] for number in (29, 3, 17, 0, 29)
    ]


def test_file_order() -> None:
    """Without shuffling, the steps take the rows as the file has them, one epoch after another."""
    steps = steps_of(LENGTHS, 4, shuffle=False)
    rows = [index % 11 for index in range(16)]
    assert [sorted(step) for step in steps] == [sorted(rows[at : at + 4]) for at in range(0, 16, 4)]


def test_longest_first() -> None:
    """Inside a step samples are sorted by length, so that a micro batch pads little and the first shows the peak."""
    for step in steps_of(LENGTHS, 8):
        lengths = [LENGTHS[index] for index in step]
        assert lengths == sorted(lengths, reverse=True)


def test_batch_larger_than_the_data() -> None:
    """A global batch may hold more samples than there are: some come twice, none is left out."""
    (step,) = steps_of([1, 1, 1], 1, size=8)
    assert sorted(Counter(step).values()) == [2, 3, 3]


@pytest.mark.parametrize(("ranks", "micro"), [(1, 1), (1, 2), (1, 8), (2, 1), (2, 2), (2, 4), (4, 1), (4, 2)])  # fmt: skip
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_a_step(ranks: int, micro: int, shuffle: bool) -> None:
    """The processes together see the same samples in a step, however many they are and however it is cut."""
    batches = GlobalBatches(LENGTHS, global_size=8, seed=5, shuffle=shuffle)
    turns = 8 // (micro * ranks)
    shares = [
        MicroBatches(
            batches,
            num_steps=6,
            size=MicroSize(micro),
            accumulation_steps=turns,
            rank=rank,
            num_ranks=ranks,
        )
        for rank in range(ranks)
    ]
    dealt = [[batch for (batch,) in share] for share in shares]
    for share, mine in zip(shares, dealt, strict=True):
        assert len(share) == len(mine) == 6 * turns
        assert all(len(batch) == micro for batch in mine)
    for step in range(6):
        parts = [batch for mine in dealt for batch in mine[step * turns : (step + 1) * turns]]
        assert Counter(index for part in parts for index in part) == Counter(batches.step(step))


def test_ranks_work_on_like_lengths() -> None:
    """In each turn the processes get neighbours in length, so that none waits long for another."""
    batches = GlobalBatches(list(range(16)), global_size=16, seed=0, shuffle=True)
    order = {"num_steps": 1, "size": MicroSize(2), "accumulation_steps": 4, "num_ranks": 2}
    dealt = [
        [batch for (batch,) in MicroBatches(batches, rank=rank, **order)]  # type: ignore[arg-type]
        for rank in range(2)
    ]
    assert dealt == [
        [[15, 14], [11, 10], [7, 6], [3, 2]],
        [[13, 12], [9, 8], [5, 4], [1, 0]],
    ]


def test_collate() -> None:
    """Rows are padded on the right to the longest: padding has no attention and no label."""
    batch = collate([Sample([5, 6, 7], [IGNORED, 6, 7]), Sample([8], [IGNORED])], pad_token_id=2)
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[5, 6, 7], [8, 2, 2]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "labels": [[IGNORED, 6, 7], [IGNORED, IGNORED, IGNORED]],
    }
    assert all(value.dtype == torch.int64 for value in batch.values())


def test_a_real_token_may_be_the_padding_token() -> None:
    """Where the padding token also ends a sequence, its real places keep attention and label."""
    batch = collate([Sample([5, 2], [IGNORED, 2]), Sample([5], [5])], pad_token_id=2)
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 2], [5, IGNORED]]


def test_lengths() -> None:
    """The length of a sample is its number of tokens."""
    assert lengths_of(Samples([Sample([1, 2], [1, 2]), Sample([1], [1])])) == [2, 1]


@given(
    rows=st.integers(1, 60), size=st.integers(1, 12), seed=st.integers(0, 99), shuffle=st.booleans()
)
def test_grouped_by_length(rows: int, size: int, seed: int, shuffle: bool) -> None:
    """Grouping by length loses and repeats no sample of an epoch, and the seed fixes it."""
    lengths = [(7 * row) % 23 + 1 for row in range(rows)]
    grouped = [
        GlobalBatches(lengths, global_size=size, seed=seed, shuffle=shuffle, group_by_length=True)
        for _ in range(2)
    ]
    steps = [grouped[0].step(number) for number in range(2 * rows)]
    assert steps == [grouped[1].step(number) for number in range(2 * rows)]
    for number in range(1, len(steps) + 1):
        counts = Counter(index for step in steps[:number] for index in step)
        assert all(counts[index] - number * size // rows in (0, 1) for index in range(rows))


@pytest.mark.parametrize("rows", [400, 403])
def test_grouped_steps_hold_like_lengths(rows: int) -> None:
    """In each epoch, also one that begins inside a step, the lengths of a step lie close together."""
    lengths = [(37 * row) % rows for row in range(rows)]
    batches = GlobalBatches(lengths, global_size=8, seed=1, shuffle=True, group_by_length=True)
    steps = [batches.step(number) for number in range(3 * rows // 8)]
    spans = [max(lengths[i] for i in step) - min(lengths[i] for i in step) for step in steps]
    # Steps that end an epoch mix what is left of it with the begin of the next.
    assert sum(span > rows / 10 for span in spans) <= (0 if rows == 400 else 6)
    means = [sum(lengths[i] for i in step) for step in steps]
    assert means != sorted(means)
    assert steps[: rows // 8] != steps[rows // 8 : 2 * (rows // 8)]


# By tokens


def room_taken(batch: list[int], lengths: list[int], size: MicroSize) -> int:
    """Return the tokens of a micro batch with its padding."""
    longest = max(lengths[index] for index in batch)
    whole = sum(lengths[index] for index in batch)
    padded = -(-(whole if size.padding_free else longest) // size.pad_multiple) * size.pad_multiple
    return padded if size.padding_free else padded * len(batch)


SIZES = st.builds(
    MicroSize,
    tokens=st.integers(40, 200),
    pad_multiple=st.sampled_from([1, 8]),
    padding_free=st.booleans(),
)


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    size=SIZES,
    ranks=st.integers(1, 4),
    global_size=st.integers(1, 24),
)
def test_micro_batches_by_tokens(
    lengths: list[int], size: MicroSize, ranks: int, global_size: int
) -> None:
    """Every sample of a step is seen once, none of its micro batches holds too much, and all processes make as many."""
    batches = GlobalBatches(lengths, global_size=global_size, seed=3, shuffle=True)
    shares = [
        list(
            MicroBatches(
                batches, num_steps=4, size=size, accumulation_steps=1, rank=rank, num_ranks=ranks
            )
        )
        for rank in range(ranks)
    ]
    for number, step in enumerate(zip(*shares, strict=True)):
        assert len({len(mine) for mine in step}) == 1
        dealt = [batch for mine in step for batch in mine]
        assert Counter(i for batch in dealt for i in batch) == Counter(batches.step(number))
        assert all(
            room_taken(batch, lengths, size) <= (size.tokens or 0) for batch in dealt if batch
        )


def test_as_many_as_fit() -> None:
    """Short samples share a micro batch that one long sample fills, so there are fewer than by samples."""
    lengths = [100, 90, 50, 50, 25, 25, 25, 25, 10, 10]
    order = list(range(10))
    assert MicroSize(tokens=100).cut(order, lengths) == [[0], [1], [2, 3], [4, 5, 6, 7], [8, 9]]
    free = MicroSize(tokens=100, padding_free=True).cut(order, lengths)
    assert [sorted(lengths[i] for i in batch) for batch in free] == [[100], [10, 90], [50, 50], [25] * 4, [10]]  # fmt: skip


def test_processes_make_as_many_passes() -> None:
    """Micro batches are halved until they can be dealt evenly; where single samples remain, some passes are empty."""
    assert shared([[1, 2, 3], [4]], 3) == [[1, 2], [3], [4]]
    assert shared([[1], [2], [3]], 2) == [[1], [2], [3], []]
    assert shared([], 4) == []


@pytest.mark.parametrize("padding_free", [True, False])
def test_an_empty_micro_batch_counts_nothing(padding_free: bool) -> None:
    """A pass without samples has tokens to compute, and none that is counted or carries loss."""
    data = Samples([Sample([5, 6, 7], [5, 6, 7]), Sample([8, 9], [8, 9])])
    batch = Batches(data, Collator(2, padding_free=padding_free))[[]]
    assert batch["input_ids"].tolist() == [[8, 9]]
    assert int(num_tokens(batch)) == 0
    assert batch["labels"].ne(IGNORED).sum() == 0
