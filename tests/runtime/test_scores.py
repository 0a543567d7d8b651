"""Scores of tokens: log-probabilities, entropies and gradients as whole logits give them, from chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from toy import VOCABULARY, Widths, batch_of, llama, samples, trained

from tunec.runtime.objectives import chunked, references
from tunec.runtime.objectives.chunked import Wanted
from tunec.runtime.objectives.scores import Scorer

ALL = Wanted(mean=True, entropy=True, top=True, temperature=0.7)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make chunks of three tokens, so that every batch needs several and the last is not full."""
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", 3 * VOCABULARY + 5)


def by_hand(model: Any, batch: dict[str, Tensor], temperature: float) -> list[Tensor]:
    """Return log-probabilities, means, entropies and whether each is the top one, of tokens with a label."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    everything = (logits[:, :-1] / temperature).log_softmax(-1)
    found: list[list[Tensor]] = [[], [], [], []]
    for row, at in batch["labels"][:, 1:].ge(0).nonzero().tolist():
        here, token = everything[row, at], int(batch["labels"][row, at + 1])
        found[0].append(here[token])
        found[1].append(here.mean())
        found[2].append(torch.distributions.Categorical(logits=here).entropy())
        found[3].append((here.argmax() == token).float())
    return [torch.stack(values) for values in found]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", ["full", "lora", "lora-head"])
def test_scores_equal_whole_logits(kind: str) -> None:
    """Every score and every gradient is that of whole logits, however a loss weighs and combines them."""
    model, batch = llama(tied=kind == "full", kind=kind), batch_of(samples(9, 5, 12, 3))
    log_probs, means, entropies, top = by_hand(model, batch, 0.7)
    weights = torch.linspace(0, 1, len(log_probs))
    expected = ((weights * log_probs).exp() + 0.3 * means).sum()
    expected_gradients = torch.autograd.grad(expected, trained(model), allow_unused=True)
    scorer = Scorer(model)
    assert (scorer.head is None) == (kind == "lora-head")
    found = scorer(model, batch, ALL)
    for ours, theirs in zip(
        (found.log_probs, found.means, found.entropies, found.are_top),
        (log_probs, means, entropies, top),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    loss = ((weights * found.log_probs).exp() + 0.3 * found.means).sum()
    torch.testing.assert_close(
        torch.autograd.grad(loss, trained(model), allow_unused=True),
        expected_gradients,
        rtol=1e-4,
        atol=1e-5,
    )


def test_rows() -> None:
    """Sums over rows count each row's own tokens; a row without a label has 0."""
    model, batch = llama(tied=False), batch_of(samples(9, 5, 12))
    batch["labels"][1] = -100
    found = Scorer(model)(model, batch)
    assert found.lengths.tolist() == [6, 0, 8]
    sums = found.per_row()
    torch.testing.assert_close(sums[0], found.log_probs[:6].sum())
    assert float(sums[1]) == 0
    torch.testing.assert_close(sums[2], found.log_probs[6:].sum())


@pytest.mark.usefixtures("small_chunks")
def test_no_tensor_wider_than_a_chunk() -> None:
    """Neither forward nor backward makes a tensor of vocabulary width with more rows than a chunk has."""
    model = llama(tied=False, kind="lora")
    scorer = Scorer(model)
    with Widths() as widths:
        found = scorer(model, batch_of(samples(20, 20)), ALL)
        found.per_row().exp().sum().backward()
    assert widths.rows == 3


def test_adapters_off() -> None:
    """Switched off, the model is the one without adapters, and what is trained stays as it was."""
    model, batch = llama(tied=True, kind="lora"), batch_of(samples(9, 5))
    plain, adapted = llama(tied=True, kind="full"), Scorer(model)(model, batch).log_probs
    chosen = [parameter.requires_grad for parameter in model.parameters()]
    reference = references.AdapterOff()
    reference.attach(model, Scorer(model))
    off = reference.log_probs(model, batch)
    torch.testing.assert_close(off, Scorer(plain)(plain, batch).log_probs.detach())
    assert not off.requires_grad
    assert not torch.allclose(off, adapted)
    assert [parameter.requires_grad for parameter in model.parameters()] == chosen
    assert torch.equal(Scorer(model)(model, batch).log_probs, adapted)
