"""Samples that share a row stay apart: losses, gradients and logits are those each has alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from tunec.runtime import models
from tunec.runtime.data.batches import MicroSize
from tunec.runtime.data.layouts import Batches, Collator, eval_batches, model_inputs, num_tokens
from tunec.runtime.data.packing import pack
from tunec.runtime.data.samples import IGNORED, Sample, Samples
from tunec.runtime.errors import UserError
from tunec.runtime.objectives import Sft
from tunec.runtime.training.isolation import check_isolation

VOCABULARY = 280
PADDED, FREE = Collator(2), Collator(2, padding_free=True)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with weights large enough that attention matters."""
    from safetensors.torch import load_file, save_file

    path = tiny.make_model(tmp_path_factory.mktemp("model") / "model", tied=request.param)
    file = path / "model.safetensors"
    weights = {name: w if w.dim() < 2 else w * 10 for name, w in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    return path


def loaded(
    folder: Path, *, attention: str, method: str = "full", checkpointing: bool = False
) -> Any:
    """Return the model ready to train; the adapters are random, so that none is zero."""
    torch.manual_seed(3)
    model = models.load_causal_lm(models.Base(folder, attention=attention), dtype="fp32")
    if method == "full":
        adapted = models.train_all(model)
    else:
        targets = ["q_proj", "v_proj", "down_proj"]
        adapted = models.add_lora(model, rank=4, alpha=8, dropout=0.0, targets=targets)
    if checkpointing:
        models.recompute_activations(adapted)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted.train()


def samples(*lengths: int, seed: int = 7) -> Samples:
    """Return samples whose first third is a prompt, but one that is all answer."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number, length in enumerate(lengths):
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        prompt = length // 3 if number else 0
        rows.append(Sample(ids, [IGNORED] * prompt + ids[prompt:]))
    return Samples(rows)


def results(model: Any, batches: list[dict[str, Tensor]]) -> tuple[Tensor, list[Tensor], int]:
    """Return the summed loss, the gradients of all that is trained, and the number of items."""
    objective = Sft()
    objective.attach(model)
    model.zero_grad()
    total = torch.zeros(())
    for batch in batches:
        loss = objective.loss_sum(model, batch)
        loss.backward()
        total += loss.detach()
    gradients = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    return total, gradients, sum(int(objective.num_items(batch)) for batch in batches)


def assert_equal(found: Any, expected: Any) -> None:
    """Losses within 1e-5, gradients within 1e-5 of the largest, items exactly."""
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    largest = max(float(part.abs().max()) for part in expected[1])
    for part, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(part / largest, other / largest, rtol=1e-5, atol=1e-5)
    assert found[2] == expected[2]


LENGTHS = (9, 5, 12, 3, 1, 20, 2, 7)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_equal_to_each_alone(
    folder: Path, attention: str, method: str, checkpointing: bool
) -> None:
    """Padded, padding-free and packed batches have the loss and gradients of one sample at a time."""
    model = loaded(folder, attention=attention, method=method, checkpointing=checkpointing)
    data = samples(*LENGTHS)
    alone = results(model, [PADDED([sample]) for sample in data])
    assert_equal(results(model, [PADDED(list(data))]), alone)
    assert_equal(results(model, [FREE(list(data))]), alone)
    assert_equal(results(model, [FREE(data.rows[:3]), FREE(data.rows[3:])]), alone)
    packed = pack(data, max_length=24)
    assert 1 < len(packed) < len(data)
    assert_equal(results(model, [PADDED([row]) for row in packed]), alone)
    assert_equal(results(model, [PADDED(list(packed))]), alone)
    assert_equal(results(model, [Collator(2, pad_multiple=16)(list(packed))]), alone)
    assert_equal(results(model, [FREE(list(packed))]), alone)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_poisoned_neighbour(folder: Path, attention: str) -> None:
    """Other tokens in one sample change no logit of those before and after it, and no gradient they cause."""
    model = loaded(folder, attention=attention)
    first, middle, last = samples(8, 6, 9)
    poison = Sample([token + 1 for token in middle.input_ids], [IGNORED] * 6)
    outputs = []
    for other in (Sample(middle.input_ids, [IGNORED] * 6), poison):
        batch = FREE([first, other, last])
        model.zero_grad()
        logits = model(**model_inputs(batch)).logits
        kept = torch.cat([logits[0, :8], logits[0, -9:]])
        torch.logsumexp(kept, -1).sum().backward()
        outputs.append((kept.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_poison_is_strong_enough(folder: Path, attention: str) -> None:
    """The trap that the layout avoids is real: with a mask of ones the same poison shows."""
    model = loaded(folder, attention=attention)
    first, last = samples(8, 9)
    batch = FREE([first, last])
    leaking = {**model_inputs(batch), "attention_mask": torch.ones_like(batch["input_ids"])}
    apart = model(**model_inputs(batch)).logits[0, -9:]
    assert float((model(**leaking).logits[0, -9:] - apart).abs().max().detach()) > 1e-2


def test_padding_free() -> None:
    """One row without padding: positions start again, and no label asks for a first token."""
    batch = FREE([Sample([5, 6, 7], [IGNORED, 6, 7]), Sample([8, 9], [8, 9])])
    assert {name: value.tolist() for name, value in batch.items()} == {
        "input_ids": [[5, 6, 7, 8, 9]],
        "labels": [[IGNORED, 6, 7, IGNORED, 9]],
        "position_ids": [[0, 1, 2, 0, 1]],
        "num_tokens": 5,
    }
    assert all(value.dtype == torch.int64 for value in batch.values())
    assert "attention_mask" not in model_inputs(batch)


def test_packed_rows() -> None:
    """Packed rows of one batch are padded to the longest, each token of padding as a sample of its own."""
    rows = [Sample([5, 6, 7], [IGNORED, 6, IGNORED], (2, 1)), Sample([8], [IGNORED], (1,))]
    batch = PADDED(rows)
    assert batch["position_ids"].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 2, 2]]
    assert int(num_tokens(batch)) == 4


def test_padding_to_a_multiple() -> None:
    """Rows are padded to the next multiple; what is no padding is still counted."""
    batch = Collator(2, pad_multiple=8)([Sample([5] * 9, [5] * 9), Sample([6], [6])])
    assert batch["input_ids"].shape == (2, 16)
    assert int(num_tokens(batch)) == 10
    assert Collator(2, pad_multiple=8)([Sample([5] * 8, [5] * 8)])["input_ids"].shape == (1, 8)


@pytest.mark.parametrize("collator", [PADDED, FREE], ids=["padded", "free"])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_evaluation(collator: Collator, ranks: int) -> None:
    """Processes evaluate each token once, in equally many batches."""
    data = samples(*LENGTHS)
    shares = [
        eval_batches(data.lengths, MicroSize(3), rank=rank, num_ranks=ranks)
        for rank in range(ranks)
    ]
    assert {len(share) for share in shares} == {-(-3 // ranks)}
    batches = Batches(data, collator)
    counted = sum(int(Sft().num_items(batches[mine])) for share in shares for mine in share)
    assert counted == data.num_trainable
    assert eval_batches([], MicroSize(3), rank=0, num_ranks=1) == []


# The look before training


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_sound_models_pass(folder: Path, attention: str) -> None:
    """The look before training passes a model that keeps samples apart, and leaves it in training mode."""
    model = loaded(folder, attention=attention)
    for collator in (FREE, PADDED):
        for rows in (1, 2, 8):
            check_isolation(model, collator, rows=rows, vocabulary=VOCABULARY, device="cpu")
    assert model.training


def test_leaks_are_found(tiny_model: Path) -> None:
    """A model that does not restart with the positions is refused, even one with weights as small as new ones."""
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    forward = model.forward

    def leaking(**arguments: Any) -> Any:
        return forward(**arguments, attention_mask=torch.ones_like(arguments["input_ids"]))

    model.forward = leaking
    with pytest.raises(UserError, match="see each other"):
        check_isolation(model, FREE, rows=1, vocabulary=VOCABULARY, device="cpu")


def test_leaks_of_several_rows_are_found(folder: Path) -> None:
    """What tells samples apart in micro batches of one row only, as FlashAttention does, is tried with two."""
    model = loaded(folder, attention="sdpa")
    forward = model.forward

    def flash(**arguments: Any) -> Any:
        if len(arguments["input_ids"]) > 1:
            arguments["attention_mask"] = torch.ones_like(arguments["input_ids"])
        return forward(**arguments)

    model.forward = flash
    check_isolation(model, PADDED, rows=1, vocabulary=VOCABULARY, device="cpu")
    with pytest.raises(UserError, match="see each other"):
        check_isolation(model, PADDED, rows=4, vocabulary=VOCABULARY, device="cpu")


def test_recurrent_models_are_found() -> None:
    """A state-space model carries one sample's state into the next, whatever the positions say."""
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4)
    model = MambaForCausalLM(config)

    class WithPositions(torch.nn.Module):
        def forward(self, input_ids: Tensor, position_ids: Tensor, use_cache: bool) -> Any:
            return model(input_ids=input_ids, use_cache=use_cache)

    with pytest.raises(UserError, match="see each other"):
        check_isolation(WithPositions(), FREE, rows=1, vocabulary=64, device="cpu")


def test_gpt_oss_is_found() -> None:
    """A model whose code forgets the positions when it makes the mask is refused, though others of its kind are not."""
    from transformers import GptOssConfig, GptOssForCausalLM

    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, num_local_experts=2, num_experts_per_tok=1,
        layer_types=["full_attention"], pad_token_id=0,
    )  # fmt: skip
    model = GptOssForCausalLM(config).float()
    with pytest.raises(UserError, match="see each other"):
        check_isolation(model, PADDED, rows=1, vocabulary=64, device="cpu")
