"""Models that see: they load and train on texts, and nothing but their language model changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunec.runtime import models, objectives
from tunec.runtime.models.parts import part_of

TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "head_dim": 8,
}  # fmt: skip
CLIP: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 28, "patch_size": 14, "projection_dim": 32,
}  # fmt: skip
QWEN: dict[str, Any] = {"depth": 2, "num_heads": 4, "patch_size": 14, "in_channels": 3}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llava": ({"model_type": "llama"}, {"model_type": "clip_vision_model", **CLIP}),
    "gemma3": ({}, {"model_type": "siglip_vision_model", **CLIP}),
    "qwen2_vl": ({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}, {**QWEN, "embed_dim": 32, "hidden_size": 32}),
    "qwen2_5_vl": ({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}, {**QWEN, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48}),
    "qwen3_vl": ({"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}, {**QWEN, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "deepstack_visual_indexes": [0]}),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    """A tiny random model of the family."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import AutoModelForMultimodalLM

    folder: Path = tmp_path_factory.mktemp(request.param) / "model"
    tokenizer = tiny.make_tokenizer(folder)
    text, vision = FAMILIES[request.param]
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(
        request.param,
        text_config={**TEXT, "vocab_size": len(tokenizer), **ids, **text},
        vision_config=vision,
        # Marks of pictures, which no text holds.
        image_token_id=len(tokenizer) - 1, video_token_id=len(tokenizer) - 2,
        vision_start_token_id=len(tokenizer) - 3, vision_end_token_id=len(tokenizer) - 4,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForMultimodalLM.from_config(config, dtype=torch.float32).save_pretrained(str(folder))
    return folder


def batch() -> dict[str, torch.Tensor]:
    ids = torch.tensor([[5, 9, 13, 40, 41, 60, 7], [8, 12, 61, 70, 0, 0, 0]])
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def step(model: Any) -> dict[str, torch.Tensor]:
    """Train one step with weight decay; return how far each parameter moved."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    objective = objectives.Sft()
    objective.attach(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    objective.loss_sum(model.train(), batch()).backward()
    optimizer.step()
    return {name: (p.detach() - before[name]).abs().max() for name, p in model.named_parameters()}


def test_full_training_changes_the_language_model_alone(folder: Path, tmp_path: Path) -> None:
    """Every weight of the language model moves, none of tower and projector; what is saved loads as the same."""
    model = models.train_all(models.load_causal_lm(folder, dtype="fp32"))
    parts = {part_of(name) for name, _ in model.named_parameters()}
    assert parts == {"language", "projector", "tower"}
    for name, moved in step(model).items():
        assert bool(moved > 0) == (part_of(name) == "language"), name
    model.save_pretrained(str(tmp_path))
    again = models.load_causal_lm(tmp_path, dtype="fp32").eval()
    inputs = {name: value for name, value in batch().items() if name != "labels"}
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, model.eval()(**inputs).logits)


def test_adapters_are_on_the_language_model_alone(folder: Path) -> None:
    """`all-linear`, and names that tower and language model share, mean modules of the language model."""
    for targets in ("all-linear", ["q_proj", "v_proj"]):
        model = models.load_causal_lm(folder, dtype="fp32")
        adapted = models.add_lora(model, rank=2, alpha=4, dropout=0.0, targets=targets)
        names = adapted.targeted_module_names
        assert any("q_proj" in name for name in names)
        assert {part_of(name) for name in names} == {"language"}
        assert all("lora_" in name for name, p in adapted.named_parameters() if p.requires_grad)


def test_random_weights(folder: Path) -> None:
    """Such a model can be drawn at random as well."""
    model = models.load_causal_lm(models.Base(folder, init="random", seed=1), dtype="fp32")
    other = models.load_causal_lm(folder, dtype="fp32")
    assert {name for name, _ in model.named_parameters()} == {
        name for name, _ in other.named_parameters()
    }


def test_the_compiler_knows_the_same_parts(folder: Path) -> None:
    """It counts the adapters that the run has, from the names in the weight files."""
    from tunec.compiler.facts.model import read_model

    facts = read_model(folder.parent, "model")
    counted = facts.linear_modules()
    model = models.load_causal_lm(folder, dtype="fp32")
    adapted = models.add_lora(model, rank=2, alpha=4, dropout=0.0, targets="all-linear")
    assert len(counted) == len(adapted.targeted_module_names)
    whole = models.train_all(models.load_causal_lm(folder, dtype="fp32"))
    frozen = sum(p.numel() for p in whole.parameters() if not p.requires_grad)
    assert facts.count_beside_language() == frozen > 0
