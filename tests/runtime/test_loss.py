"""The loss: equal to cross-entropy over whole logits, with the memory of one chunk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from toy import VOCABULARY, Widths, batch_of, llama, naive, samples, trained

from tunec.runtime import models
from tunec.runtime.data.batches import collate
from tunec.runtime.data.samples import IGNORED, Sample
from tunec.runtime.errors import UserError
from tunec.runtime.objectives import Sft, chunked, head, scores
from tunec.runtime.objectives.chunked import linear_cross_entropy_sum


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a chunk hold three tokens of the small vocabulary."""
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", 3 * VOCABULARY + 5)


def inputs(
    tokens: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, 16, generator=generator)
    weight = torch.randn(VOCABULARY, 16, generator=generator)
    bias = torch.randn(VOCABULARY, generator=generator)
    targets = torch.randint(0, VOCABULARY, (tokens,), generator=generator)
    return (*(part.to(dtype).requires_grad_() for part in (hidden, weight, bias)), targets)  # type: ignore[return-value]


def by_torch(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight, bias)
    return functional.cross_entropy(logits, targets, reduction="sum")


def gradients(loss: Tensor, *parameters: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 6, 7, 100])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equal_to_torch(tokens: int, with_bias: bool) -> None:
    """Loss and all gradients are those of torch's cross-entropy, on and off the borders of a chunk."""
    hidden, weight, bias, targets = inputs(tokens)
    parts = [hidden, weight, bias] if with_bias else [hidden, weight]
    given_bias = bias if with_bias else None
    ours = linear_cross_entropy_sum(hidden, weight, given_bias, targets)
    expected = by_torch(hidden, weight, given_bias, targets)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    # Scaled, as a trainer divides by the tokens of the step.
    for ours_part, torch_part in zip(
        gradients(ours * 0.3, *parts), gradients(expected * 0.3, *parts), strict=True
    ):
        torch.testing.assert_close(ours_part, torch_part, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("tokens", [1, 4, 100])
def test_weights_of_tokens(tokens: int) -> None:
    """Each token's loss counts with its weight, in the sum and in all gradients."""
    hidden, weight, bias, targets = inputs(tokens)
    counts = torch.linspace(0, 2, tokens)
    ours = linear_cross_entropy_sum(hidden, weight, bias, targets, counts)
    logits = functional.linear(hidden, weight, bias)
    expected = (functional.cross_entropy(logits, targets, reduction="none") * counts).sum()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    parts = (hidden, weight, bias)
    for ours_part, torch_part in zip(
        gradients(ours, *parts), gradients(expected, *parts), strict=True
    ):
        torch.testing.assert_close(ours_part, torch_part, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_a_batch_with_weights(
    fused: bool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over a batch is the weighted mean over its tokens, fused with the head or not."""
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    objective = Sft()
    if not fused:
        monkeypatch.setattr(scores, "fuse_head", lambda model: None)
    assert (objective.attach(model) == "fused head and loss") == fused
    samples = [
        Sample([1, 5, 6, 7], [IGNORED, 5, 6, 7], weights=[0, 1, 0.5, 0.25]),
        Sample([1, 8, 9], [IGNORED, IGNORED, 9]),
    ]
    batch = collate(samples, pad_token_id=0)
    logits = load_plain(tiny_model)(batch["input_ids"], attention_mask=batch["attention_mask"])
    log_probabilities = logits.logits.log_softmax(-1)
    counted = [(0, 0, 5, 1.0), (0, 1, 6, 0.5), (0, 2, 7, 0.25), (1, 1, 9, 1.0)]
    expected = -sum(w * log_probabilities[row, at, token] for row, at, token, w in counted)
    assert float(objective.num_items(batch)) == 2.75
    torch.testing.assert_close(objective.loss_sum(model, batch), expected, rtol=1e-5, atol=1e-5)


def load_plain(folder: Path) -> Any:
    """Return the model without anything of ours."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.usefixtures("small_chunks")
def test_bf16() -> None:
    """In bf16 the loss is an fp32 sum, and as near to the exact one as torch's own way."""
    parts = inputs(50, torch.bfloat16)
    exact = [part.detach().float().requires_grad_() for part in parts[:3]]
    ours = linear_cross_entropy_sum(*parts)
    expected = by_torch(*exact, parts[3])  # type: ignore[arg-type]
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, rtol=5e-3, atol=0.0)
    pairs = zip(gradients(ours, *parts[:3]), gradients(expected, *exact), strict=True)
    for part, exact_part in pairs:
        assert part.dtype == torch.bfloat16
        assert float((part.float() - exact_part).norm() / exact_part.norm()) < 0.01


@pytest.mark.usefixtures("small_chunks")
def test_no_targets() -> None:
    """A micro batch without a token to learn has the loss 0 and zero gradients: no NaN, no missing gradient."""
    hidden, weight, bias, targets = inputs(4)
    loss = linear_cross_entropy_sum(hidden[:0], weight, bias, targets[:0])
    assert float(loss.detach()) == 0.0
    for gradient in gradients(loss, hidden, weight, bias):
        assert not gradient.any()


def test_large_logits() -> None:
    """Logits of some thousands neither overflow nor turn into NaN."""
    hidden, weight, bias, targets = inputs(8)
    with torch.no_grad():
        hidden *= 1e3
    ours = linear_cross_entropy_sum(hidden, weight, bias, targets)
    torch.testing.assert_close(ours, by_torch(hidden, weight, bias, targets))
    assert all(part.isfinite().all() for part in gradients(ours, hidden, weight, bias))


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(0, 20), chunk=st.integers(1, 25))
def test_chunks_change_nothing(tokens: int, chunk: int) -> None:
    """The size of a chunk does not change the loss or a gradient."""
    results = []
    for size in (chunk * VOCABULARY, 2**24):
        hidden, weight, bias, targets = inputs(tokens)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunked, "CHUNK_ELEMENTS", size)
            loss = linear_cross_entropy_sum(hidden, weight, bias, targets)
        results.append([loss, *gradients(loss, hidden, weight, bias)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-4)


def test_only_what_is_trained_is_computed() -> None:
    """A frozen head (LoRA) costs no gradient of its own size."""
    hidden, weight, bias, targets = inputs(4)
    loss = linear_cross_entropy_sum(hidden, weight.detach(), bias.detach(), targets)
    assert len(gradients(loss, hidden)) == 1
    with torch.no_grad():
        assert not linear_cross_entropy_sum(hidden, weight, bias, targets).requires_grad


# On a model


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["full", "lora", "lora-head"])
def test_sft_equals_whole_logits(kind: str, tied: bool) -> None:
    """Loss and gradients of every trained parameter are those of a loop over whole logits."""
    model, batch = llama(tied=tied, kind=kind), batch_of(samples(9, 5, 12, 3))
    expected = naive(model, batch)
    expected_gradients = gradients(expected, *trained(model))
    objective = Sft()
    fused = objective.attach(model) == "fused head and loss"
    assert fused == (kind != "lora-head")
    loss = objective.loss_sum(model, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        gradients(loss, *trained(model)), expected_gradients, rtol=1e-4, atol=1e-5
    )
    assert int(objective.num_items(batch)) == sum(n - n // 3 for n in (9, 5, 12)) + 2


def test_num_items() -> None:
    """A label on the first token is never predicted, so it does not count."""
    batch = batch_of([Sample([5, 6], [5, 6]), Sample([5], [5]), Sample([4, 4], [IGNORED] * 2)])
    assert int(Sft().num_items(batch)) == 1


def test_batch_without_labels() -> None:
    """An empty batch on a whole model gives the loss 0 and gradients of 0, as ranks without data need."""
    model = llama(tied=True)
    batch = batch_of([Sample([5, 6, 7], [IGNORED] * 3)])
    objective = Sft()
    objective.attach(model)
    loss = objective.loss_sum(model, batch)
    assert float(loss.detach()) == 0.0
    assert not any(part.any() for part in gradients(loss, *trained(model)))


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_the_model_still_gives_logits(kind: str) -> None:
    """Attaching and training change neither a plain forward pass nor generation."""
    model, batch = llama(tied=True, kind=kind).eval(), batch_of(samples(6))
    ids = batch["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        words = model.generate(input_ids=ids, max_new_tokens=5, do_sample=False)
        objective = Sft()
        objective.attach(model)
        objective.loss_sum(model, batch)
        torch.testing.assert_close(model(input_ids=ids).logits, logits)
        assert torch.equal(model.generate(input_ids=ids, max_new_tokens=5, do_sample=False), words)


def test_logits_come_back_after_a_failure() -> None:
    """A forward pass that fails leaves the head as it was."""
    model = llama(tied=True)
    objective = Sft()
    objective.attach(model)
    bad = {**batch_of(samples(4)), "input_ids": torch.tensor([[VOCABULARY + 9] * 4])}
    with pytest.raises(IndexError):
        objective.loss_sum(model, bad)
    assert model(input_ids=torch.tensor([[3, 4]])).logits.shape == (1, 2, VOCABULARY)


@pytest.fixture
def widths() -> Iterator[Widths]:
    """Record what is computed inside the test."""
    with Widths() as mode:
        yield mode


def test_the_recorder_sees_whole_logits(widths: Widths) -> None:
    """The measuring device works: whole logits show as all rows of the batch."""
    naive(llama(tied=False, kind="lora"), batch_of(samples(20, 20)))
    assert widths.rows == 40


@pytest.mark.usefixtures("small_chunks")
def test_no_tensor_wider_than_a_chunk(widths: Widths) -> None:
    """Forward and backward make no tensor of vocabulary width with more rows than a chunk has."""
    model = llama(tied=False, kind="lora")
    widths.rows = 0
    objective = Sft()
    objective.attach(model)
    loss = objective.loss_sum(model, batch_of(samples(20, 20)))
    loss.backward()
    assert widths.rows == 3


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_accumulation(kind: str) -> None:
    """Four micro batches of one give the gradients of one batch of four, whatever the lengths."""
    model, rows = llama(tied=True, kind=kind), samples(25, 3, 11, 6)
    objective = Sft()
    objective.attach(model)
    whole = batch_of(rows)
    items = int(objective.num_items(whole))
    expected = gradients(objective.loss_sum(model, whole) / items, *trained(model))
    parts = [batch_of([row]) for row in rows]
    assert sum(int(objective.num_items(part)) for part in parts) == items
    for part in parts:
        (objective.loss_sum(model, part) / items).backward()
    found = [parameter.grad for parameter in trained(model)]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


# Models that do something to their logits


def gemma(**config: Any) -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    }  # fmt: skip
    torch.manual_seed(2)
    return Gemma2ForCausalLM(Gemma2Config(**sizes, **config)).eval()


def granite() -> Any:
    from transformers import GraniteConfig, GraniteForCausalLM

    torch.manual_seed(2)
    config = GraniteConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, logits_scaling=8.0,
    )  # fmt: skip
    return GraniteForCausalLM(config).eval()


@pytest.mark.parametrize("make", [lambda: gemma(final_logit_softcapping=0.5), granite])
def test_models_that_change_their_logits(make: Any) -> None:
    """Soft caps and scales after the head are part of the loss: such a model takes the ordinary way."""
    model, batch = make(), batch_of(samples(9, 5))
    objective = Sft()
    assert objective.attach(model) == "full logits (the model changes them)"
    torch.testing.assert_close(objective.loss_sum(model, batch), naive(model, batch))


def test_gemma_without_a_cap_is_fused() -> None:
    """The same architecture without a cap (Gemma 3) takes the fused way and has the same loss."""
    model, batch = gemma(final_logit_softcapping=None), batch_of(samples(9, 5))
    expected = naive(model, batch)
    objective = Sft()
    assert objective.attach(model) == "fused head and loss"
    torch.testing.assert_close(objective.loss_sum(model, batch), expected)


@pytest.mark.parametrize(
    "name",
    [
        "final_logit_softcapping",  # Gemma 2, Gemma 3n, nanochat
        "logits_soft_cap",  # RecurrentGemma
        "output_logit_soft_cap",  # xLSTM
        "logits_scaling",  # Granite
        "logit_scale",  # Cohere
        "lm_head_multiplier",  # Falcon-H1
        "output_multiplier",
        "unpadded_vocab_size",
    ],
)
def test_known_names_of_changes(name: str) -> None:
    """Each setting by which a known architecture changes its logits leads to the ordinary way."""
    model = llama(tied=True)
    setattr(model.config, name, 2)
    assert head.fuse_head(model) is None
    setattr(model.config, name, None)
    assert head.fuse_head(model) is not None


def test_unknown_changes_are_noticed() -> None:
    """A model that scales its logits in a way nobody knows of is refused instead of trained wrongly."""
    model = llama(tied=True)
    forward = model.forward

    def scaled(**arguments: Any) -> Any:
        output = forward(**arguments)
        output.logits = output.logits / 8
        return output

    model.forward = scaled
    objective = Sft()
    assert objective.attach(model) == "fused head and loss"
    with pytest.raises(UserError, match="changes its logits after the output head"):
        objective.loss_sum(model, batch_of(samples(9)))


def test_tiny_model_of_the_other_tests(tiny_model: Path) -> None:
    """The model that the end-to-end tests train takes the fused way, so that they test it."""
    assert Sft().attach(models.load_causal_lm(tiny_model, dtype="fp32")) == "fused head and loss"
