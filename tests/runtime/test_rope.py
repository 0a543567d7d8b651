"""Rotary positions: the frequencies of the formulas, written down here a second time, and what a server will read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models.variants import whole

BASE, DIM, LENGTH = 10_000.0, 8, 512
"""Of the tiny model: `rope_theta`, width of a head, `max_position_embeddings`."""
PLAIN = [BASE ** (-2 * index / DIM) for index in range(DIM // 2)]


def yarn(factor: float, fast: float = 32.0, slow: float = 1.0) -> list[float]:
    """YaRN (arXiv:2309.00071), as its authors compute it: a ramp over the dimensions between two wavelengths."""

    def dimension(rotations: float) -> float:
        return DIM * math.log(LENGTH / (rotations * 2 * math.pi)) / (2 * math.log(BASE))

    low, high = max(math.floor(dimension(fast)), 0), min(math.ceil(dimension(slow)), DIM - 1)
    ramp = [min(max((index - low) / (high - low), 0), 1) for index in range(DIM // 2)]
    return [f * (1 - r) + f / factor * r for f, r in zip(PLAIN, ramp, strict=True)]


def llama3(factor: float, low: float = 1.0, high: float = 4.0) -> list[float]:
    """The bands of Llama 3.1: long waves are stretched, short ones stay, in between both are mixed."""
    found = []
    for frequency in PLAIN:
        share = (LENGTH * frequency / (2 * math.pi) - low) / (high - low)
        share = min(max(share, 0), 1)
        found.append(frequency * share + frequency / factor * (1 - share))
    return found


def dynamic(factor: float, length: int) -> list[float]:
    """NTK-aware scaling: the base grows with the length of the text."""
    stretch = factor * length / LENGTH - (factor - 1)
    base = BASE * stretch ** (DIM / (DIM - 2))
    return [base ** (-2 * index / DIM) for index in range(DIM // 2)]


def load(path: Path, rope: models.Rope | None = None) -> Any:
    return models.load_causal_lm(models.Base(path, rope=rope), dtype="fp32").eval()


def frequencies(model: Any, length: int = 16) -> list[float]:
    """The frequencies in force after a text of so many tokens."""
    with torch.no_grad():
        model(input_ids=torch.full((1, length), 5), use_cache=False)
    found: list[float] = model.model.rotary_emb.inv_freq.tolist()
    return found


CASES = {
    "linear": (models.Rope("linear", factor=2.5), [f / 2.5 for f in PLAIN], 1.0, 1280),
    "yarn": (models.Rope("yarn", factor=4.0), yarn(4), 0.1 * math.log(4) + 1, 2048),
    "yarn with other ends": (
        models.Rope("yarn", factor=2.0, beta_fast=16.0, beta_slow=2.0),
        yarn(2, 16, 2), 0.1 * math.log(2) + 1, 1024,
    ),
    "llama3": (models.Rope("llama3", factor=8.0), llama3(8), 1.0, 4096),
    "llama3 with other bands": (
        models.Rope("llama3", factor=2.0, low_freq_factor=2.0, high_freq_factor=16.0),
        llama3(2, 2, 16), 1.0, 1024,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_formula(tiny_model: Path, tmp_path: Path, name: str) -> None:
    """Frequencies and scale are those of the formula, and of the saved model as anyone loads it."""
    rope, expected, scale, positions = CASES[name]
    model = load(tiny_model, rope)
    assert frequencies(model) == pytest.approx(expected, rel=1e-5)
    assert model.model.rotary_emb.attention_scaling == pytest.approx(scale)
    model.save_pretrained(str(tmp_path))
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["max_position_embeddings"] == positions
    assert written["rope_parameters"]["rope_type"] == rope.type
    ids = torch.arange(600)[None] % 250
    with torch.no_grad():
        assert torch.equal(model(ids).logits, load(tmp_path)(ids).logits)
        assert not torch.allclose(model(ids).logits, load(tiny_model)(ids).logits, atol=1e-3)


def test_dynamic_grows_with_the_text_at_hand(tiny_model: Path) -> None:
    """Frequencies follow from the length of a text alone, whatever was computed before."""
    model = load(tiny_model, models.Rope("dynamic", factor=2.0))
    for length in (16, 800, 600, 512, 700, 30):
        expected = dynamic(2, length) if length > LENGTH else PLAIN
        assert frequencies(model, length) == pytest.approx(expected, rel=1e-5)
    assert model.config.max_position_embeddings == LENGTH


@pytest.mark.parametrize(
    ("max_length", "factor"), [(512, 1.0), (513, 2.0), (1024, 2.0), (2000, 4.0)]
)
def test_factor_for_a_length(tiny_model: Path, max_length: int, factor: float) -> None:
    """Without a factor, it is the whole number that the longest text needs."""
    model = load(tiny_model, models.Rope("yarn", max_length=max_length))
    assert model.config.rope_parameters["factor"] == factor
    assert model.config.rope_parameters["original_max_position_embeddings"] == LENGTH


def test_replaced_not_multiplied(tiny_model: Path, tmp_path: Path) -> None:
    """A model that was stretched before counts from its first length; a trained one is loaded as it is."""
    first = models.Base(tiny_model, rope=models.Rope("yarn", factor=2.0))
    models.load_causal_lm(first, dtype="fp32").save_pretrained(str(tmp_path))
    again = load(tmp_path, models.Rope("llama3", factor=4.0))
    assert frequencies(again) == pytest.approx(llama3(4), rel=1e-5)
    assert again.config.max_position_embeddings == 2048
    assert set(again.config.rope_parameters) == {
        "rope_type", "rope_theta", "factor", "original_max_position_embeddings",
        "low_freq_factor", "high_freq_factor",
    }  # fmt: skip
    assert whole(first, tmp_path).rope is None


def test_positions_that_cannot_be_stretched(tmp_path: Path, tiny_model: Path) -> None:
    """A model without rotary positions is refused before its weights are read."""
    from transformers import GPT2Config

    tiny.make_tokenizer(tmp_path)
    GPT2Config(n_embd=8, n_layer=1, n_head=1).save_pretrained(str(tmp_path))
    with pytest.raises(UserError, match="no rotary positions"):
        load(tmp_path, models.Rope("linear", factor=2.0))
