"""Several sources: which rows count, how often, and in which order."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunec.runtime.data import Alpaca, prepare
from tunec.runtime.data.order import mixed, repeated
from tunec.runtime.data.prepared import open_prepared
from tunec.runtime.data.tokenizer import Tokenizer
from tunec.runtime.data.work import Options

OPTIONS = Options(loss_on="assistant", max_length=64, too_long="drop")


@pytest.fixture
def work(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with a tokenizer and two files: 6 rows that say `a0` to `a5`, and 3 that say `b0` to `b2`."""
    (tmp_path / "model").symlink_to(tiny_model)
    for name, count in (("a", 6), ("b", 3)):
        rows = [{"instruction": "Say it.", "output": f"{name}{n}"} for n in range(count)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    return tmp_path


def source(work: Path, name: str, **options: Any) -> Alpaca:
    return Alpaca(path=work / f"{name}.json", name=name, **options)


def said(work: Path, *sources: Alpaca, held: bool = False, **changes: Any) -> list[str]:
    """Prepare, and return the answers in the order in which they would be trained."""
    arguments: dict[str, Any] = {
        "tokenizer": Tokenizer(path=work / "model"), "options": OPTIONS, "seed": 7, "output": work,
        "cache_dir": work / "cache", "workers": 1, **changes,
    }  # fmt: skip
    found = open_prepared(prepare(sources, **arguments))
    tokenizer = Tokenizer(path=work / "model").load()
    texts = [
        tokenizer.decode([label for label in sample.labels if label >= 0]) for sample in found[held]
    ]
    return [text.removesuffix("<|im_end|>") for text in texts]


@pytest.mark.parametrize(
    ("mix", "weights", "expected"),
    [
        ("concat", (None, None), "a0 a1 a2 a3 a4 a5 b0 b1 b2"),
        ("interleave-under", (None, None), "a0 b0 a1 b1 a2 b2"),
        ("interleave-over", (None, None), "a0 b0 a1 b1 a2 b2 a3 b0 a4 b1 a5 b2"),
        ("interleave-once", (None, None), "a0 b0 a1 b1 a2 b2 a3 a4 a5"),
        ("interleave-under", (0.25, 0.75), "b0 b1 a0 b2"),
        ("interleave-over", (0.6, 0.2), "a0 a1 a2 b0 a3 a4 a5 b1 a0 a1 a2 b2"),
        ("interleave-once", (2.0, 1.0), "a0 a1 b0 a2 a3 b1 a4 a5 b2"),
    ],
)
def test_mix(work: Path, mix: Any, weights: Any, expected: str) -> None:
    """Sources are drawn in turns by their weights; rows of a source keep their order."""
    sources = [source(work, name, weight=w) for name, w in zip("ab", weights, strict=True)]
    assert " ".join(said(work, *sources, mix=mix)) == expected


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    shares=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    scale=st.sampled_from([1.0, 0.1, 1 / 3]),
)
def test_shares(lengths: list[int], shares: list[int], scale: float) -> None:
    """After any number of draws each source has had its share, to within one row."""
    parts = [np.arange(length) + 100 * number for number, length in enumerate(lengths)]
    weights = [share * scale for share in shares[: len(parts)]]
    total = sum(weights)
    for mix in ("interleave-under", "interleave-over"):
        order = mixed(parts, list(weights), mix)  # type: ignore[arg-type]
        sources = [int(sample) // 100 for sample in order]
        for end in range(1, len(order) + 1):
            counts = Counter(sources[:end])
            assert all(
                abs(counts[n] - end * weight / total) < len(parts)
                for n, weight in enumerate(weights)
            )
        used = Counter(map(int, order))
        whole = [all(used[int(sample)] for sample in part) for part in parts]
        assert any(whole) if mix == "interleave-under" else all(whole)
        if mix == "interleave-under":
            assert max(used.values()) == 1
    once = mixed(parts, list(weights), "interleave-once")
    assert sorted(once) == sorted(np.concatenate(parts))


def test_a_source_of_which_nothing_is_left(work: Path) -> None:
    """A source whose rows were all dropped takes no turns."""
    assert mixed([np.arange(3), np.arange(0)], [None, None], "interleave-under").tolist() == [
        0,
        1,
        2,
    ]
    assert mixed([np.arange(0)], [None], "interleave-over").tolist() == []


def test_sample_draws_at_random(work: Path) -> None:
    """Fewer rows are drawn without repetition, in the order of the file, the same for a seed."""
    drawn = said(work, source(work, "a", sample=4))
    assert len(set(drawn)) == 4
    assert drawn == sorted(drawn)
    assert said(work, source(work, "a", sample=4), rebuild=True) == drawn
    others = [said(work, source(work, "a", sample=4), seed=seed) for seed in range(6)]
    assert any(other != drawn for other in others)


def test_sample_draws_from_what_limit_leaves(work: Path) -> None:
    """`limit` comes first."""
    assert said(work, source(work, "a", limit=2, sample=2)) == ["a0", "a1"]


def test_sample_repeats(work: Path) -> None:
    """More than there are: every row as often as it goes, and some once more."""
    counts = Counter(said(work, source(work, "b", sample=8), source(work, "a", limit=1)))
    assert sum(counts.values()) == 9
    assert sorted(counts[f"b{n}"] for n in range(3)) == [2, 3, 3]


def test_no_repeated_row_is_held_out(work: Path) -> None:
    """A row is trained or evaluated on, never both, however often it is repeated."""
    many = source(work, "a", sample=60)
    train, held = (said(work, many, eval_rows=2, held=held) for held in (False, True))
    assert (len(train), len(held)) == (58, 2)
    assert not set(train) & set(held)


def test_evaluation_sources_are_sampled_too(work: Path) -> None:
    """`sample` means the same for evaluation rows; they are never mixed."""
    both = {"evaluation": [source(work, "b", sample=6), source(work, "a", sample=2)]}
    held = said(work, source(work, "a"), held=True, mix="interleave-over", **both)
    assert [text[0] for text in held] == list("bbbbbbaa")


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_order_does_not_depend_on_the_workers(work: Path, workers: int) -> None:
    """Sampled, mixed and held out: one process or three write the same order."""
    rows = [{"instruction": "Say it.", "output": f"c{n}"} for n in range(900)]
    (work / "c.json").write_text(json.dumps(rows))
    sources = [source(work, "c", sample=700, weight=5.0), source(work, "a", sample=50, weight=1.0)]
    options: dict[str, Any] = {"mix": "interleave-over", "eval_rows": 9, "rebuild": True}
    assert said(work, *sources, workers=workers, **options) == said(work, *sources, **options)


def test_repeated() -> None:
    """Repetition is whole rounds and a random rest."""
    assert repeated(np.arange(3), 6, "x").tolist() == [0, 1, 2, 0, 1, 2]
    assert repeated(np.arange(3), 2, "x").tolist() == [0, 1, 2]
    assert len(set(repeated(np.arange(9), 12, "x")[9:].tolist())) == 3
