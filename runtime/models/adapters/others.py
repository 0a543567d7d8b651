"""Adapters that are no low-rank update: rotations, scales, shared projections, products; and AdaLoRA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .attach import Targets, attach, common, listed, refuse_towers, task_of

FAR = 2**31
"""Steps AdaLoRA is told before the training knows their number; `training.fit` sets it."""


def add_oft(
    model: Any,
    *,
    targets: Targets,
    block_size: int | None = None,
    num_blocks: int | None = None,
    dropout: float = 0.0,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with block-diagonal rotations of its weights (arXiv:2306.07280), identity at the start."""
    from peft import OFTConfig

    config = OFTConfig(
        **common(model, targets, layers, full_modules),
        r=num_blocks or 0,
        oft_block_size=block_size or 0,
        module_dropout=dropout,
    )
    return attach(model, config, targets=targets)


def add_boft(
    model: Any,
    *,
    targets: Targets,
    block_size: int,
    factors: int,
    dropout: float = 0.0,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with rotations as products of butterfly matrices (arXiv:2311.06243), identity at the start."""
    from peft import BOFTConfig

    config = BOFTConfig(
        **common(model, targets, layers, full_modules),
        boft_block_size=block_size,
        boft_n_butterfly_factor=factors,
        boft_dropout=dropout,
    )
    return attach(model, config, targets=targets)


def add_ia3(
    model: Any,
    *,
    targets: Targets,
    feedforward: Sequence[str],
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with learned scales (arXiv:2205.05638): of inputs of `feedforward`, of outputs elsewhere."""
    from peft import IA3Config

    config = IA3Config(
        task_type=task_of(model),
        target_modules=listed(targets),
        feedforward_modules=list(feedforward),
        modules_to_save=list(full_modules) or None,
    )
    return attach(model, config, targets=targets)


def add_adalora(
    model: Any,
    *,
    rank: int,
    initial_rank: int,
    alpha: float,
    dropout: float,
    targets: Targets,
    warmup_steps: int = 0,
    final_steps: int = 0,
    interval: int = 1,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with adapters `B diag(E) A` whose ranks move while training (arXiv:2303.10512)."""
    from peft import AdaLoraConfig

    config = AdaLoraConfig(
        **common(model, targets, layers, full_modules),
        target_r=rank,
        init_r=initial_rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        tinit=warmup_steps,
        tfinal=final_steps,
        deltaT=interval,
        total_step=FAR,
    )
    return attach(model, config, targets=targets)


def add_vera(
    model: Any,
    *,
    rank: int,
    dropout: float,
    targets: Targets,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with trained scales between shared random matrices (arXiv:2310.11454), which are saved too."""
    from peft import VeraConfig

    refuse_towers(model, "VeRA")
    config = VeraConfig(
        **common(model, targets, layers, full_modules),
        r=rank,
        vera_dropout=dropout,
        save_projection=True,
    )
    return attach(model, config, targets=targets)


def add_loha(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Targets,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with updates that are element-wise products of low-rank matrices (arXiv:2108.06098)."""
    from peft import LoHaConfig

    config = LoHaConfig(
        **common(model, targets, layers, full_modules), r=rank, alpha=alpha, module_dropout=dropout
    )
    return attach(model, config, targets=targets)


def add_lokr(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Targets,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
) -> Any:
    """Return the model with updates that are Kronecker products (arXiv:2212.10650)."""
    from peft import LoKrConfig

    config = LoKrConfig(
        **common(model, targets, layers, full_modules), r=rank, alpha=alpha, module_dropout=dropout
    )
    return attach(model, config, targets=targets)
