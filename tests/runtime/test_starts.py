"""What adapters start from, where that takes a look at the data: the numbers PEFT finds by hand on the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from tunec.runtime import models

TARGETS = ["q_proj", "v_proj"]
RANK = 4


@pytest.fixture
def batches() -> list[dict[str, torch.Tensor]]:
    """Four batches of two rows, the second one shorter, with loss on the second half."""
    generator = torch.Generator().manual_seed(11)
    made = []
    for _ in range(4):
        ids = torch.randint(3, 300, (2, 24), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, 20:] = 0
        labels = torch.where(mask.bool(), ids, -100)
        labels[:, :12] = -100
        made.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return made


def load(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)


def ours(folder: Path, batches: Any, init: Any, **settings: Any) -> Any:
    model = models.load_causal_lm(folder, dtype="fp32")
    torch.manual_seed(5)
    return models.add_lora(
        model,
        rank=RANK,
        alpha=8.0,
        dropout=0.0,
        targets=TARGETS,
        init=init,
        look=batches,
        **settings,
    )


def config(init: str, **settings: Any) -> Any:
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=RANK,
        lora_alpha=8.0,
        target_modules=TARGETS,
        init_lora_weights=init,
        **settings,
    )


def same(found: Any, expected: Any) -> None:
    """Adapters and frozen weights are the same numbers."""
    mine, theirs = found.state_dict(), expected.state_dict()
    assert mine.keys() == theirs.keys()
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rho", [1.0, 2.0])
def test_eva(tiny_model: Path, batches: Any, rho: float) -> None:
    """EVA starts from the singular vectors PEFT finds in the same batches, with the same ranks."""
    model = load(tiny_model)
    torch.manual_seed(5)
    adapted = peft.get_peft_model(model, config("eva", eva_config=peft.EvaConfig(rho=rho)))
    peft.initialize_lora_eva_weights(adapted, batches, show_progress_bar=False)
    found = ours(tiny_model, batches, "eva", rho=rho)
    same(found, adapted)
    assert found.peft_config["default"].rank_pattern == adapted.peft_config["default"].rank_pattern


@pytest.mark.parametrize("mode", ["instruction", "knowledge"])
def test_corda(tiny_model: Path, batches: Any, mode: Any) -> None:
    """CorDA starts from the decomposition PEFT makes of the same texts, one at a time and without padding."""
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    model = load(tiny_model).eval()
    texts = [
        row[kept.bool()][None]
        for batch in batches
        for row, kept in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    method = {"instruction": "ipm", "knowledge": "kpm"}[mode]
    chosen = config("corda", corda_config=CordaConfig(corda_method=method))
    with torch.no_grad():
        preprocess_corda(model, chosen, run_model=lambda: [model(input_ids=t) for t in texts])
    torch.manual_seed(5)
    same(ours(tiny_model, batches, "corda", mode=mode), peft.get_peft_model(model, chosen))


@pytest.mark.parametrize(
    ("direction", "theirs"),
    [("a-first", "ArB2r"), ("b-first", "A2rBr"), ("alternating", "ArBr"), ("random", "random")],
)
@pytest.mark.parametrize(
    ("scale", "their_scale"),
    [("stable", "stable"), ("gradient", "gd_scale"), ("weights", "weight_svd"), ("none", "unit")],
)
def test_lora_ga(
    tiny_model: Path, batches: Any, direction: Any, theirs: Any, scale: Any, their_scale: Any
) -> None:
    """LoRA-GA starts from the gradients PEFT averages over the same batches."""
    from peft.tuners.lora.config import LoraGAConfig
    from peft.tuners.lora.loraga import preprocess_loraga

    model = load(tiny_model)

    def run() -> None:
        for batch in batches:
            model(**batch).loss.backward()

    chosen = config("lora_ga", lora_ga_config=LoraGAConfig(theirs, their_scale, 4))
    preprocess_loraga(model, chosen, run)
    torch.manual_seed(5)
    expected = peft.get_peft_model(model, chosen)
    same(
        ours(tiny_model, batches, "lora-ga", direction=direction, scale=scale, gamma=4.0), expected
    )


def test_lora_ga_by_the_paper(tiny_model: Path, batches: Any) -> None:
    """A is the first right singular vectors of the mean gradient, and the model stays as it was."""
    model = load(tiny_model)
    for batch in batches:
        (model(**batch).loss / len(batches)).backward()
    adapted = ours(tiny_model, batches, "lora-ga")
    for layer in range(2):
        for name in TARGETS:
            plain = getattr(model.model.layers[layer].self_attn, name).weight
            module = getattr(adapted.model.model.layers[layer].self_attn, name)
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            _, _, right = torch.linalg.svd(plain.grad)
            # Up to signs: the planes they span.
            torch.testing.assert_close(a.T @ a, right[:RANK].T @ right[:RANK], rtol=0, atol=2e-2)
            whole = module.base_layer.weight + 2.0 * b @ a
            torch.testing.assert_close(whole, plain, rtol=0, atol=1e-6)


def test_orthogonal(tiny_model: Path) -> None:
    """Orthogonal A and B are not zero, their product is."""
    adapted = ours(tiny_model, (), "orthogonal")
    module = adapted.model.model.layers[0].self_attn.q_proj
    a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
    assert min(float(a.abs().max()), float(b.abs().max())) > 0.01
    torch.testing.assert_close(b @ a, torch.zeros(32, 32), rtol=0, atol=1e-6)
