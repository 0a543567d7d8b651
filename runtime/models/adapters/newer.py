"""Methods of 2024 and later: spectra, reflections, random bases, shards, sparse and circulant updates, vector banks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from .attach import Targets, attach, common, refuse_towers

STARTS = {
    "xavier": "xavier_uniform",
    "kaiming": "kaiming_uniform",
    "normal": "gaussian",
    "zero": True,
}


def add_fourierft(
    model: Any,
    *,
    frequencies: int,
    scale: float,
    seed: int,
    start: Literal["normal", "zero"] = "normal",
    targets: Targets,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with updates that have a few coefficients of their spectrum (arXiv:2405.03003), at places by `seed`."""
    from peft import FourierFTConfig

    config = FourierFTConfig(
        **common(model, targets, layers, full_modules),
        n_frequency=frequencies,
        scaling=scale,
        random_loc_seed=seed,
        init_weights=start == "zero",
    )
    return attach(model, config, targets=targets)


def add_hra(
    model: Any,
    *,
    rank: int,
    targets: Targets,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with Householder reflections of its inputs (arXiv:2405.17484), pairs of equal ones at the start."""
    from peft import HRAConfig

    config = HRAConfig(**common(model, targets, layers, full_modules), r=rank)
    return attach(model, config, targets=targets)


def add_randlora(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    sparsity: Literal["none", "sparse", "very-sparse"] = "none",
    targets: Targets,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with trained sums of random low-rank matrices (arXiv:2502.00987), which are saved too."""
    from peft import RandLoraConfig

    refuse_towers(model, "RandLoRA")
    config = RandLoraConfig(
        **common(model, targets, layers, full_modules),
        r=rank,
        randlora_alpha=alpha,
        randlora_dropout=dropout,
        sparse=sparsity == "sparse",
        very_sparse=sparsity == "very-sparse",
        save_projection=True,
    )
    return attach(model, config, targets=targets)


def add_miss(
    model: Any,
    *,
    rank: int,
    dropout: float = 0.0,
    variant: Literal["standard", "bat", "mini"] = "standard",
    mini_rank: int = 1,
    targets: Targets,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with updates whose columns repeat every `rank` inputs (arXiv:2409.15371), zero at the start."""
    from peft import MissConfig

    config = MissConfig(
        **common(model, targets, layers, full_modules),
        r=rank,
        miss_dropout=dropout,
        init_weights=True if variant == "standard" else variant,
        mini_r=mini_rank,
    )
    return attach(model, config, targets=targets)


def add_shira(
    model: Any,
    *,
    rank: int,
    seed: int,
    targets: Targets,
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with sparse updates at random places (arXiv:2406.13175), zero at the start."""
    from peft import ShiraConfig

    refuse_towers(model, "SHiRA")
    config = ShiraConfig(
        **_without_layers(model, targets, full_modules),
        r=rank,
        random_seed=seed,
    )
    return attach(model, config, targets=targets)


def add_c3a(
    model: Any,
    *,
    block_size: int,
    start: Literal["xavier", "kaiming", "normal", "zero"] = "xavier",
    targets: Targets,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with updates of circulant blocks (arXiv:2407.19342)."""
    from peft import C3AConfig

    refuse_towers(model, "C3A")
    config = C3AConfig(
        **common(model, targets, layers, full_modules),
        block_size=block_size,
        init_weights=STARTS[start],
    )
    return attach(model, config, targets=targets)


def add_road(
    model: Any,
    *,
    group_size: int,
    variant: Literal[1, 2, 4] = 1,
    targets: Targets,
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with trained rotations and scales of pairs of outputs (arXiv:2409.00119), identity at the start."""
    from peft import RoadConfig

    refuse_towers(model, "RoAd")
    config = RoadConfig(
        **_without_layers(model, targets, full_modules),
        variant=f"road_{variant}",
        group_size=group_size,
    )
    return attach(model, config, targets=targets)


def add_vblora(
    model: Any,
    *,
    rank: int,
    num_vectors: int,
    vector_length: int,
    top_k: int = 2,
    dropout: float = 0.0,
    bank_bound: float = 0.02,
    logits_std: float = 0.1,
    targets: Targets,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with adapters made of vectors from one bank (arXiv:2405.15179)."""
    from peft import VBLoRAConfig

    config = VBLoRAConfig(
        **common(model, targets, layers, full_modules),
        r=rank,
        num_vectors=num_vectors,
        vector_length=vector_length,
        topk=top_k,
        vblora_dropout=dropout,
        init_vector_bank_bound=bank_bound,
        init_logits_std=logits_std,
    )
    return attach(model, config, targets=targets)


def _without_layers(model: Any, targets: Targets, full_modules: Sequence[str]) -> dict[str, Any]:
    """Return what configurations are told that know no blocks."""
    given = common(model, targets, (), full_modules)
    given.pop("layers_to_transform")
    return given
