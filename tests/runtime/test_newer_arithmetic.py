"""Methods of 2024 and later against the formulas of their papers, computed by hand from their parameters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from tunec.runtime import models

NAME = "base_model.model.model.layers.0.self_attn.v_proj"
OUT, INTO = 16, 32


def adapted(folder: Path, kind: str, **settings: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Return a layer with an adapter whose numbers are not those of the start, its weight, and what it does in all."""
    model = models.load_causal_lm(folder, dtype="fp32")
    torch.manual_seed(5)
    model = getattr(models, f"add_{kind}")(model, targets=["v_proj"], **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    layer = model.get_submodule(NAME)
    with torch.no_grad():
        whole = layer(torch.eye(INTO)).T
    return layer, layer.base_layer.weight.detach(), whole


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_fourierft(tiny_model: Path) -> None:
    """The update is a sum of plane waves (arXiv:2405.03003, equations 3 and 4)."""
    layer, weight, whole = adapted(tiny_model, "fourierft", frequencies=9, scale=150.0, seed=3)
    places, values = layer.indices["default"], layer.fourierft_spectrum["default"].detach()
    assert len(set(zip(*places.tolist(), strict=True))) == 9
    p, q = torch.arange(OUT)[:, None] / OUT, torch.arange(INTO)[None] / INTO
    waves = (
        value * torch.cos(2 * math.pi * (p * row + q * column))
        for row, column, value in zip(*places, values, strict=True)
    )
    close(whole, weight + 150.0 / (OUT * INTO) * sum(waves, torch.zeros(OUT, INTO)))


def test_hra(tiny_model: Path) -> None:
    """The weight is multiplied by reflections, I - 2 u u^T / |u|^2 each (arXiv:2405.17484, equation 3)."""
    layer, weight, whole = adapted(tiny_model, "hra", rank=4)
    product = torch.eye(INTO)
    for u in layer.hra_u["default"].detach().T:
        product = product @ (torch.eye(INTO) - 2 * torch.outer(u, u) / u.dot(u))
    close(whole, weight @ product)
    close(product @ product.T, torch.eye(INTO))


def test_randlora(tiny_model: Path) -> None:
    """The update is a sum of random matrices with trained diagonals between (arXiv:2502.00987, equation 2)."""
    layer, weight, whole = adapted(tiny_model, "randlora", rank=4, alpha=8.0)
    a, b = layer.randlora_A["default"].float(), layer.randlora_B["default"].float()
    trained = layer.randlora_lambda["default"].detach(), layer.randlora_gamma["default"].detach()
    # 16 outputs, 32 inputs: four bases of rank 4 are of full rank.
    assert [value.shape for value in trained] == [(4, 4), (4, 16)]
    update = torch.zeros(INTO, OUT)
    # PEFT deals the random columns of B out rank by rank, not base by base.
    columns = b[:INTO].flatten(start_dim=1)
    for j in range(4):
        inner = trained[0][:, j, None] * a[:, 0, :OUT] * trained[1][j]
        update += columns[:, j::4] @ inner
    close(whole, weight + 8.0 / 4 * update.T)
    assert int(torch.linalg.matrix_rank(whole - weight)) == OUT


def test_miss(tiny_model: Path) -> None:
    """Inputs that are `rank` apart share the numbers of the update (arXiv:2409.15371)."""
    layer, weight, whole = adapted(tiny_model, "miss", rank=8)
    shared = layer.miss_block["default"].detach()
    close(whole, weight + shared.repeat(INTO // 8, 1).T)


def test_shira(tiny_model: Path) -> None:
    """As many weights change as LoRA of that rank has numbers, and no others (arXiv:2406.13175)."""
    _, weight, whole = adapted(tiny_model, "shira", rank=3, seed=1)
    assert int((whole - weight).abs().gt(1e-6).sum()) == 3 * (OUT + INTO)
    _, _, same = adapted(tiny_model, "shira", rank=3, seed=1)
    _, _, other = adapted(tiny_model, "shira", rank=3, seed=2)
    changed = [(found - weight).abs().gt(1e-6) for found in (whole, same, other)]
    assert torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])


def test_c3a(tiny_model: Path) -> None:
    """Each block of the update is circulant: a row is the one above, moved by one (arXiv:2407.19342)."""
    layer, weight, whole = adapted(tiny_model, "c3a", block_size=8)
    kernels, update = layer.c3a_kernel["default"].detach(), whole - weight
    for i in range(OUT // 8):
        for j in range(INTO // 8):
            block = update[8 * i : 8 * i + 8, 8 * j : 8 * j + 8]
            close(block[0], kernels[i, j] / INTO)
            for row in range(7):
                close(block[row + 1], block[row].roll(1))


def test_road(tiny_model: Path) -> None:
    """Outputs of a group are rotated and scaled in pairs, the first half with the second (arXiv:2409.00119)."""
    layer, weight, whole = adapted(tiny_model, "road", group_size=8)
    angles, scales = layer.road_theta["default"].detach(), layer.road_alpha["default"].detach()
    expected = torch.zeros(OUT, INTO)
    for group in range(OUT // 8):
        for i in range(4):
            first, second, pair = 8 * group + i, 8 * group + 4 + i, 4 * group + i
            cos, sin = scales[pair] * angles[pair].cos(), scales[pair] * angles[pair].sin()
            expected[first] = cos * weight[first] - sin * weight[second]
            expected[second] = sin * weight[first] + cos * weight[second]
    close(whole, expected)


def test_vblora(tiny_model: Path) -> None:
    """Rows of A and columns of B are laid together from mixtures of the bank's vectors (arXiv:2405.15179, equation 4)."""
    layer, weight, whole = adapted(tiny_model, "vblora", rank=2, num_vectors=6, vector_length=8)
    bank = layer.vblora_vector_bank["default"].detach()

    def mixed(logits: torch.Tensor) -> torch.Tensor:
        chosen = logits.detach().topk(2)
        return sum(
            w * bank[i] for w, i in zip(chosen.values.softmax(0), chosen.indices, strict=True)
        )  # type: ignore[return-value]

    choices = layer.vblora_logits_A["default"], layer.vblora_logits_B["default"]
    a = torch.stack([torch.cat([mixed(part) for part in row]) for row in choices[0]])
    b = torch.cat([torch.stack([mixed(part) for part in rows], dim=1) for rows in choices[1]])
    close(whole, weight + b @ a)


def test_starts(tiny_model: Path) -> None:
    """Methods that say so start from the model as it was."""
    ids = torch.tensor([[5, 60, 7, 200, 9, 10]])
    plain = models.load_causal_lm(tiny_model, dtype="fp32").eval()
    calls: dict[str, dict[str, Any]] = {
        "fourierft": {"frequencies": 9, "scale": 150.0, "seed": 1, "start": "zero"},
        "hra": {"rank": 4},
        "randlora": {"rank": 4, "alpha": 80.0},
        "miss": {"rank": 8},
        "shira": {"rank": 2, "seed": 1},
        "c3a": {"block_size": 8, "start": "zero"},
        "road": {"group_size": 8},
    }
    for kind, settings in calls.items():
        model = models.load_causal_lm(tiny_model, dtype="fp32")
        model = getattr(models, f"add_{kind}")(model, targets="all-linear", **settings).eval()
        with torch.no_grad():
            close(model(input_ids=ids).logits, plain(input_ids=ids).logits)
    tuned = models.add_ln_tuning(models.load_causal_lm(tiny_model, dtype="fp32"), norms="all")
    trained = [name for name, p in tuned.named_parameters() if p.requires_grad]
    assert len(trained) == 5
    with torch.no_grad():
        close(tuned.eval()(input_ids=ids).logits, plain(input_ids=ids).logits)
