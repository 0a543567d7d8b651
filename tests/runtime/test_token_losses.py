"""Losses of SFT beside the cross-entropy: equal to whole logits, however rows lie and a step is cut."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from toy import VOCABULARY, Widths, batch_of, llama, samples, trained
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

import inprocess
import runs
import tiny
from tunec.runtime.data.layouts import Collator
from tunec.runtime.data.packing import joined
from tunec.runtime.data.samples import IGNORED, Sample
from tunec.runtime.objectives import (
    AdapterAtStart,
    AdapterOff,
    Asft,
    Dft,
    Eaft,
    FrozenModel,
    LabelSmoothing,
    Sft,
    chunked,
)

Batch = dict[str, Tensor]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a chunk hold three tokens of the small vocabulary."""
    monkeypatch.setattr(chunked, "CHUNK_ELEMENTS", 3 * VOCABULARY + 5)


def whole(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the logits of all tokens with a label, and these."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    kept = batch["labels"][:, 1:] != IGNORED
    return logits[:, :-1][kept], batch["labels"][:, 1:][kept]


def smoothed(logits: Tensor, targets: Tensor, other: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, label_smoothing=0.2, reduction="none")


def dft(logits: Tensor, targets: Tensor, other: Tensor) -> Tensor:
    likely = torch.softmax(logits, -1)[range(len(targets)), targets]
    return -likely.detach() * torch.log(likely)


def asft(logits: Tensor, targets: Tensor, other: Tensor) -> Tensor:
    ours, theirs = torch.softmax(logits, -1), torch.softmax(other, -1)
    return dft(logits, targets, other) + 0.3 * (theirs * torch.log(theirs / ours)).sum(-1)


def eaft(logits: Tensor, targets: Tensor, other: Tensor) -> Tensor:
    weights = []
    for row in logits.detach():
        top = torch.softmax(row.sort(descending=True).values[:20], -1)
        weights.append((torch.distributions.Categorical(probs=top).entropy() / math.log(20)) ** 1.5)
    return torch.stack(weights) * functional.cross_entropy(logits, targets, reduction="none")


LOSSES: dict[str, tuple[Any, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "smoothed": (LabelSmoothing(0.2), smoothed),
    "dft": (Dft(), dft),
    "asft": (Asft(alpha=0.3), asft),
    "eaft": (Eaft(alpha=1.5), eaft),
}


def objective_of(name: str, model: Any, reference: Any = None) -> Sft:
    if name == "asft":
        reference = reference or AdapterOff()
    found = Sft(loss=LOSSES[name][0], reference=reference)
    found.attach(model)
    return found


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", ["lora", "lora-head", "full"])
@pytest.mark.parametrize("name", LOSSES)
def test_equal_to_whole_logits(name: str, kind: str) -> None:
    """Loss and all gradients are those of the formulas on whole logits; a full model has a second one as reference."""
    tied = kind == "full"
    model, batch = llama(tied=tied, kind=kind), batch_of(samples(9, 5, 12, 3))
    weights = torch.rand(batch["labels"].shape, generator=torch.Generator().manual_seed(3))
    batch["weights"] = weights
    plain = llama(tied=tied)
    if kind == "full":
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter.mul_(1.2)
    with torch.no_grad():
        others = whole(plain, batch)[0]
    logits, targets = whole(model, batch)
    counts = weights[:, 1:][batch["labels"][:, 1:] != IGNORED]
    expected = (LOSSES[name][1](logits, targets, others) * counts).sum()
    gradients = torch.autograd.grad(expected, trained(model), allow_unused=True)
    reference = FrozenModel(plain) if kind == "full" and name == "asft" else None
    objective = objective_of(name, model, reference)
    assert (objective.scorer.head is None) == (kind == "lora-head")
    loss = objective.loss_sum(model, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    found = torch.autograd.grad(loss * 0.3, trained(model), allow_unused=True)
    scaled = [None if each is None else each * 0.3 for each in gradients]
    torch.testing.assert_close(list(found), scaled, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(objective.loss_sum(model, batch), expected.detach())
    (measured,) = objective.tally.means(objective.tally.take(torch.device("cpu"))).values()
    entropies = functional.cross_entropy(logits, targets, reduction="none")
    assert measured == pytest.approx(float((entropies * counts).sum() / counts.sum()), rel=1e-5)


def test_accuracy_beside_it() -> None:
    """An evaluation measures accuracy and cross-entropy; the loss is still the other one."""
    model, batch = llama(tied=True, kind="lora"), batch_of(samples(9, 5))
    objective = Sft(loss=Dft(), accuracy=True)
    objective.attach(model)
    expected = objective_of("dft", model)
    with torch.no_grad():
        torch.testing.assert_close(
            objective.loss_sum(model, batch), expected.loss_sum(model, batch)
        )
    found = objective.tally.means(objective.tally.take(torch.device("cpu")))
    logits, targets = whole(model, batch)
    assert found["accuracy"] == pytest.approx(float((logits.argmax(-1) == targets).float().mean()))
    assert found["cross_entropy"] == pytest.approx(float(functional.cross_entropy(logits, targets)))


@pytest.mark.usefixtures("small_chunks")
def test_no_tensor_wider_than_a_chunk() -> None:
    """Policy and reference have logits for a chunk at a time, forward and backward."""
    model = llama(tied=False, kind="lora")
    objective = objective_of("asft", model)
    with Widths() as widths:
        objective.loss_sum(model, batch_of(samples(20, 20))).backward()
    assert widths.rows == 3


@pytest.mark.parametrize("name", LOSSES)
def test_packed(name: str) -> None:
    """Samples in one row have the loss that they have in rows of their own."""
    model, rows = llama(tied=True, kind="lora"), samples(9, 5, 12)
    objective = objective_of(name, model)
    apart = objective.loss_sum(model, batch_of(rows))
    # The first token of a packed sample is predicted by nothing.
    unlabelled = [replace(row, labels=[IGNORED, *row.labels[1:]]) for row in rows]
    packed = objective.loss_sum(model, Collator(2)([joined(unlabelled)]))
    torch.testing.assert_close(packed, apart, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_no_label(name: str) -> None:
    """A micro batch without a token to learn has the loss 0 and no NaN in its gradients."""
    model = llama(tied=True, kind="lora")
    loss = objective_of(name, model).loss_sum(model, batch_of([Sample([5, 6, 7], [IGNORED] * 3)]))
    assert float(loss.detach()) == 0
    assert not any(each.any() for each in torch.autograd.grad(loss, trained(model)))


def test_anchored_at_the_start() -> None:
    """Held near an adapter that was there before: no divergence at first, and it grows."""
    model, batch = llama(tied=True, kind="lora"), batch_of(samples(9, 12))
    objective = objective_of("asft", model, AdapterAtStart())
    plain = objective_of("dft", model)
    torch.testing.assert_close(objective.loss_sum(model, batch), plain.loss_sum(model, batch))
    with torch.no_grad():
        for parameter in trained(model):
            parameter.add_(0.1)
    assert float(objective.loss_sum(model, batch) - plain.loss_sum(model, batch)) > 1e-3


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and chats."""
    folder: Path = tmp_path_factory.mktemp("losses")
    (folder / "model").symlink_to(tiny_model)
    tiny.write_chats(folder / "data" / "chat.jsonl", 24)
    return folder


SPECS = {
    "smoothed": 'type = "cross-entropy", label_smoothing = 0.1',
    "dft": 'type = "dft"',
    "asft": 'type = "asft", alpha = 0.5',
    "eaft": 'type = "eaft", alpha = 2.0',
}


def run(room: Path, text: str, name: str) -> Path:
    run_dir = inprocess.compiled(room, text, name)
    inprocess.prepare(run_dir)
    inprocess.train(run_dir)
    return run_dir


@pytest.mark.parametrize("name", SPECS)
def test_runs(room: Path, name: str) -> None:
    """A step is the same however it is cut; the loss falls, and evaluations measure the cross-entropy beside it."""
    full = '[method]\ntype = "full"\n' if name in ("asft", "smoothed") else ""
    text = f"[objective]\nloss = {{ {SPECS[name]} }}\n{full}[data]\neval_rows = 4\n[training]\nsteps = 4\nlearning_rate = 1e-2\n"
    first = run(room, f"{text}[batch]\nglobal_size = 4\nmicro_size = 4\n", name)
    second = run(room, f"{text}[batch]\nglobal_size = 4\nmicro_size = 1\n", f"{name}-cut")
    for one, other in zip(runs.metrics(first), runs.metrics(second), strict=True):
        for key in one.keys() - {"tokens_per_s"}:
            assert one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-5), key
    rows = runs.metrics(first)
    assert "eval_cross_entropy" in rows[-1]
    assert "eval_perplexity" not in rows[-1]
    assert rows[-1]["eval_loss"] > 0
    program = (first / "train.py").read_text()
    assert "loss=objectives." in program
    assert ("FrozenModel(reference)" in program) == (name == "asft")


def test_asft_sharded(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under ZeRO-3 a second model is sharded, too, and its head is there when it is needed."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    text = (
        f'[objective]\nloss = {{ {SPECS["asft"]} }}\n[method]\ntype = "full"\n'
        "[training]\nsteps = 3\nlearning_rate = 1e-2\n[deepspeed]\nzero_stage = "
    )
    found = [runs.metrics(run(room, f"{text}{stage}\n", f"stage-{stage}")) for stage in (0, 3)]
    # Models of later tests are not to be sharded.
    unset_hf_deepspeed_config()
    for one, other in zip(*found, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
