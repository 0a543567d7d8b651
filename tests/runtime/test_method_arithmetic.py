"""Methods against their formulas, computed by hand from the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models.adapters.saving import write_adapter

QV = ["q_proj", "v_proj"]
NAME = "base_model.model.model.layers.0.self_attn.q_proj"


def load(folder: Path) -> Any:
    return models.load_causal_lm(folder, dtype="fp32")


def weight(folder: Path) -> torch.Tensor:
    found: torch.Tensor = load(folder).model.layers[0].self_attn.q_proj.weight.detach()
    return found


def adapted(folder: Path, **settings: Any) -> Any:
    """Return a model with adapters of rank 4 whose numbers are not those of the start."""
    torch.manual_seed(5)
    chosen = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": QV, **settings}
    return models.add_lora(load(folder), **chosen)


def module(model: Any) -> Any:
    return model.get_submodule(NAME)


def factors(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    found = module(model)
    return found.lora_A["default"].weight.detach(), found.lora_B["default"].weight.detach()


def shake(model: Any) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def test_rank_stabilized(tiny_model: Path) -> None:
    """rsLoRA multiplies by alpha / sqrt(r): 8 / 2 with rank 4 (Kalajdzievski 2023, definition 3.1)."""
    model = adapted(tiny_model, rank_stabilized=True)
    shake(model)
    a, b = factors(model)
    x = torch.randn(3, 32)
    expected = x @ (weight(tiny_model) + 4.0 * b @ a).T
    torch.testing.assert_close(module(model)(x), expected)


def test_dora(tiny_model: Path) -> None:
    """DoRA is m (W + s B A) / ||W + s B A|| by rows; m starts as the norms of W (Liu et al. 2024, equation 5)."""
    model = adapted(tiny_model, dora=True)
    plain = weight(tiny_model)
    m = module(model).lora_magnitude_vector["default"].weight
    torch.testing.assert_close(m.detach(), plain.norm(dim=1))
    shake(model)
    a, b = factors(model)
    moved = plain + 2.0 * b @ a
    x = torch.randn(3, 32)
    expected = x @ (m[:, None] * moved / moved.norm(dim=1, keepdim=True)).T
    torch.testing.assert_close(module(model)(x), expected, rtol=1e-4, atol=1e-5)


def test_pissa(tiny_model: Path) -> None:
    """PiSSA takes the largest singular values into B A and leaves the others (Meng et al. 2024, equations 2 to 4)."""
    plain = weight(tiny_model)
    left, values, right = torch.linalg.svd(plain)
    model = adapted(tiny_model, init="pissa")
    a, b = factors(model)
    rest = module(model).base_layer.weight.detach()
    torch.testing.assert_close(2.0 * b @ a, left[:, :4] * values[:4] @ right[:4], rtol=0, atol=1e-5)
    torch.testing.assert_close(rest, left[:, 4:] * values[4:] @ right[4:], rtol=0, atol=1e-5)


def test_olora(tiny_model: Path) -> None:
    """OLoRA starts from the first columns of Q and rows of R, and W stays the sum (Büyükakyüz 2024, algorithm 1)."""
    plain = weight(tiny_model)
    model = adapted(tiny_model, init="olora")
    a, b = factors(model)
    q, r = torch.linalg.qr(plain)
    torch.testing.assert_close(b @ a, q[:, :4] @ r[:4], rtol=0, atol=1e-5)
    rest = module(model).base_layer.weight.detach()
    torch.testing.assert_close(rest + 2.0 * b @ a, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rank_stabilized": True},
        {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"q_proj": 3.0}},
        {"dora": True},
    ],
)
def test_converted(tiny_model: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    """A converted adapter has twice the rank, and on the weights as they were it is the trained model."""
    from peft import PeftModel

    model = adapted(tiny_model, init="pissa", iterations=4, convert=True, **settings)
    shake(model)
    write_adapter(model, tmp_path, model.state_dict())
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors[f"{NAME}.lora_A.weight"].shape == (8, 32)
    again = PeftModel.from_pretrained(load(tiny_model), str(tmp_path))
    assert again.peft_config["default"].init_lora_weights is True
    ids = torch.tensor([[5, 60, 7, 200]])
    with torch.no_grad():
        expected = model.eval()(input_ids=ids).logits
        torch.testing.assert_close(again.eval()(input_ids=ids).logits, expected, rtol=0, atol=1e-5)
    # What is trained goes on as it was.
    assert model.peft_config["default"].r == 4


@pytest.mark.parametrize(
    ("blocks", "modules", "expected"),
    [
        ([1], "all", {"layers.1"}),
        ([-1], "all", {"layers.1"}),
        ([0], ["mlp"], {"layers.0.mlp"}),
        ([0, 1], ["q_proj"], {"layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj"}),
    ],
)
def test_blocks(tiny_model: Path, blocks: list[int], modules: Any, expected: set[str]) -> None:
    """Only the named parts of the chosen blocks are trained."""
    model = models.train_blocks(load(tiny_model), blocks=blocks, modules=modules)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    inside = {
        name for name, _ in model.named_parameters() if any(f".{e}." in name for e in expected)
    }
    assert trained == inside != set()


def test_blocks_that_do_not_exist(tiny_model: Path) -> None:
    """A block, a module and an extra module that the model lacks are one line each."""
    with pytest.raises(UserError, match="there is no block 2: the model has 2"):
        models.train_blocks(load(tiny_model), blocks=[2])
    with pytest.raises(UserError, match="the blocks have no module `mpl`"):
        models.train_blocks(load(tiny_model), blocks=[1], modules=["mpl"])
    with pytest.raises(UserError, match="no module `embed` outside"):
        models.train_blocks(load(tiny_model), blocks=[1], extra_modules=["embed"])


def test_ia3(tiny_model: Path) -> None:
    """(IA)³ scales outputs, and inputs of feed-forward layers (Liu et al. 2022, section 3.3)."""
    model = models.add_ia3(
        load(tiny_model), targets=["q_proj", "down_proj"], feedforward=["down_proj"]
    )
    down = model.get_submodule("base_model.model.model.layers.0.mlp.down_proj")
    with torch.no_grad():
        for found in (module(model), down):
            found.ia3_l["default"].normal_()
    x, y = torch.randn(3, 32), torch.randn(3, 64)
    scale = module(model).ia3_l["default"].flatten()
    torch.testing.assert_close(module(model)(x), x @ weight(tiny_model).T * scale)
    expected = (y * down.ia3_l["default"].flatten()) @ down.base_layer.weight.T
    torch.testing.assert_close(down(y), expected)


def test_prompt_from_text(tiny_model: Path) -> None:
    """Virtual tokens start from the embeddings of a text, over and over where it is shorter."""
    model = models.add_prompt(load(tiny_model), num_tokens=5, start=[7, 9])
    rows = load(tiny_model).get_input_embeddings().weight[[7, 9, 7, 9, 7]]
    assert torch.equal(model.prompt_encoder["default"].embedding.weight, rows)
