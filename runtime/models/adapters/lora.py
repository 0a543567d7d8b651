"""Low-rank adapters and what they start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .attach import Targets, attach, common, is_tied
from .calibration import (
    Batch,
    keep_covariances,
    keep_gradients,
    prepare_covariances,
    prepare_gradients,
    start_from_activations,
)
from .conversion import keep_start

Init = Literal["default", "gaussian", "orthogonal", "pissa", "olora", "eva", "corda", "lora-ga"]
CORDA = {"knowledge": "kpm", "instruction": "ipm"}
DIRECTIONS = {"a-first": "ArB2r", "b-first": "A2rBr", "alternating": "ArBr", "random": "random"}
SCALES = {"stable": "stable", "gradient": "gd_scale", "weights": "weight_svd", "none": "unit"}


def add_lora(
    model: Any,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    targets: Targets,
    rank_stabilized: bool = False,
    dora: bool = False,
    bias: Literal["none", "all", "lora-only"] = "none",
    init: Init = "default",
    iterations: int | None = None,
    convert: bool = False,
    look: Sequence[Batch] = (),
    rho: float = 2.0,
    mode: Literal["knowledge", "instruction"] = "instruction",
    direction: Literal["a-first", "b-first", "alternating", "random"] = "a-first",
    scale: Literal["stable", "gradient", "weights", "none"] = "stable",
    gamma: float = 16.0,
    rank_pattern: Mapping[str, int] | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
    layers: Sequence[int] = (),
    full_modules: Sequence[str] = (),
    parameters: Sequence[str] = (),
    trainable_tokens: Sequence[int] = (),
) -> Any:
    """Return the model with LoRA adapters on the modules named `targets`; only the adapters are trainable.

    `targets` may be `all-linear`: every linear layer but the output head.

    The update of a module is `alpha / rank * B A x` (Hu et al. 2021, arXiv:2106.09685), A drawn at random
    and B zero, so that training starts from the model as it was. With `rank_stabilized` it is multiplied by
    `alpha / sqrt(rank)` (arXiv:2312.03732), with `dora` the magnitudes of the weights are learned apart
    (arXiv:2402.09353). `pissa` and `olora` move a part of the weights into the adapters and leave the frozen weights
    without it; `iterations` are those of a fast decomposition, None is the exact one, and `convert` saves the result
    as an ordinary adapter of the weights as they were. `eva` and `corda` first `look` at batches of training data:
    `eva` gives a module at most `rho` times the rank, `corda` learns the task fast (`instruction`) or keeps what the
    model knows (`knowledge`). `lora-ga` also looks, and starts from singular vectors of the gradients: `direction` says
    which of them A gets, `scale` and `gamma` how large they are. `orthogonal` draws A and B with a product of zero.

    Raises:
        UserError: a target matches no module.
    """
    from peft import EvaConfig, LoraConfig
    from peft.tuners.lora.config import CordaConfig, LoraGAConfig

    start = init.replace("-", "_")
    if init == "pissa" and iterations is not None:
        start = f"pissa_niter_{iterations}"
    config = LoraConfig(
        **common(model, targets, layers, full_modules),
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_rslora=rank_stabilized,
        use_dora=dora,
        bias=bias.replace("-", "_"),
        init_lora_weights=True if init == "default" else start,
        rank_pattern=dict(rank_pattern or {}),
        alpha_pattern=dict(alpha_pattern or {}),
        target_parameters=list(parameters) or None,
        trainable_token_indices=list(trainable_tokens) or None,
        # Trained copies of tied weights stay tied, or the model could not be saved the way it was loaded.
        ensure_weight_tying=is_tied(model) and bool(full_modules),
    )
    if init == "eva":
        config.eva_config = EvaConfig(rho=rho)
    if init == "corda":
        config.corda_config = CordaConfig(corda_method=CORDA[mode])
        prepare_covariances(model, config, look)
    if init == "lora-ga":
        config.lora_ga_config = LoraGAConfig(DIRECTIONS[direction], SCALES[scale], gamma)
        prepare_gradients(model, config, look)
    adapted = attach(model, config, targets=targets)
    if init == "eva":
        return start_from_activations(adapted, look)
    if init == "corda":
        return keep_covariances(adapted)
    if init == "lora-ga":
        return keep_gradients(adapted)
    return keep_start(adapted) if convert else adapted
