"""Answers to other prompts: each dealt once, over the whole set, and none to its own prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs import judged

import tiny
from tunec.runtime.data import Messages, Options, Samples, Tokenizer, load, mismatch, prepare
from tunec.runtime.data.batches import MicroSize, lengths_of
from tunec.runtime.data.mismatch import cycle, prompt_of
from tunec.runtime.data.samples import IGNORED, Sample
from tunec.runtime.errors import UserError

ANSWERS = ((3, 5, 1), (1, 2, 0), (6, 1, 1), (2, 4, 0), (3, 7, 1))


@given(count=st.integers(2, 50), seed=st.integers(0, 2**32 - 1))
def test_every_answer_goes_elsewhere_once(count: int, seed: int) -> None:
    """Whose answer follows whose prompt is a rearrangement without a fixed point, the same for a seed."""
    found = cycle(count, seed).tolist()
    assert sorted(found) == list(range(count))
    assert all(number != other for number, other in enumerate(found))
    assert found == cycle(count, seed).tolist()


def test_prompts_and_answers_are_exchanged() -> None:
    """The sample itself stays as it is; beside it stands its prompt before the answer of another one."""
    rows = judged(*ANSWERS)
    found = mismatch(Samples(rows), max_length=64, seed=3)
    dealt = cycle(5, 3).tolist()
    for number, sample in enumerate(found):
        assert replace(sample, rejected=None) == rows[number]
        own, other = prompt_of(rows[number]), prompt_of(rows[dealt[number]])
        answer = rows[dealt[number]].input_ids[other:]
        assert sample.rejected is not None
        assert sample.rejected.input_ids == rows[number].input_ids[:own] + answer
        assert sample.rejected.labels == [IGNORED] * own + answer


def test_long_ones_are_cut() -> None:
    """No sequence is longer than allowed, and something of the other answer is always left."""
    rows = judged((9, 1, 1), (1, 9, 0), (8, 2, 1))
    found = mismatch(Samples(rows), max_length=10, seed=0)
    for sample in found:
        assert sample.rejected is not None
        assert len(sample.rejected.input_ids) <= 10
        assert sample.rejected.num_trainable >= 1
    sizes = [len(sample.rejected.input_ids) for sample in found if sample.rejected]
    together = [a + b for a, b in zip(sizes, map(len, (r.input_ids for r in rows)), strict=True)]
    assert list(found.lengths) == together


def test_lengths_are_those_of_the_longer_one() -> None:
    """A batch is padded to the longer sequence of each sample; both take turns, so each counts once."""
    found = mismatch(Samples(judged(*ANSWERS)), max_length=64, seed=3)
    assert lengths_of(found) == [
        max(len(sample.input_ids), len(sample.rejected.input_ids))
        for sample in found
        if sample.rejected
    ]
    assert found.num_together == 1


@pytest.mark.parametrize("value", [0, 1])
def test_one_kind_alone_is_told(value: int) -> None:
    """A set of good answers alone, or of bad ones, is warned of before the training."""
    rows = judged((3, 5, value), (1, 2, value))
    (warning,) = mismatch(Samples(rows), max_length=64, seed=0).warnings
    assert f"all 2 samples are labelled {'good' if value else 'bad'}" in warning
    assert mismatch(Samples(judged(*ANSWERS)), max_length=64, seed=0).warnings == ()


def test_a_lone_sample() -> None:
    """One sample has no other answer; no evaluation data stay none."""
    with pytest.raises(UserError, match="two samples at least"):
        mismatch(Samples(judged((3, 5, 1))), max_length=64, seed=0)
    assert len(mismatch(Samples([]), max_length=64, seed=0)) == 0


def test_prepared_samples(tmp_path: Path, tiny_model: Path) -> None:
    """Samples on disk are exchanged as those in memory; their lengths are known without reading them."""
    tiny.write_kinds(tmp_path)
    source = Messages(name="judged", path=tmp_path / "data" / "judged.jsonl", label="label")
    prepare(
        [source],
        tokenizer=Tokenizer(path=tiny_model),
        options=Options(kind="labels", max_length=64, too_long="truncate"),
        seed=1,
        output=tmp_path,
    )
    stored = load(tmp_path)[0]
    plain = Samples(list(stored))
    found, expected = (mismatch(each, max_length=64, seed=2) for each in (stored, plain))
    assert list(found) == list(expected)
    assert list(found.lengths) == list(expected.lengths) == [row.num_tokens for row in found]
    assert lengths_of(found) == lengths_of(expected)


def pair(chosen: int, rejected: int) -> Sample:
    return Sample([5] * chosen, [5] * chosen, rejected=Sample([6] * rejected, [6] * rejected))


@given(
    lengths=st.lists(st.tuples(st.integers(2, 16), st.integers(2, 16)), min_size=1, max_size=20),
    multiple=st.sampled_from([1, 4]),
    tokens=st.sampled_from([32, 50, 128]),
)
def test_a_micro_batch_of_pairs_has_its_tokens(
    lengths: list[tuple[int, int]], multiple: int, tokens: int
) -> None:
    """Cut by tokens, both padded answers of all pairs fit; nothing is left out."""
    samples = Samples([pair(*both) for both in lengths])
    longest = lengths_of(samples)
    size = MicroSize(tokens=tokens, pad_multiple=multiple, together=samples.num_together)
    order = sorted(range(len(samples)), key=lambda index: -longest[index])
    cut = size.cut(order, longest)
    assert [index for micro in cut for index in micro] == order
    for micro in cut:
        padded = -(-max(max(lengths[index]) for index in micro) // multiple) * multiple
        assert 2 * len(micro) * padded <= tokens
