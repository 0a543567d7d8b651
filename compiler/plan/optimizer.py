"""The class that really updates the weights, in words."""

from __future__ import annotations

from ..spec import (
    AdaFactor,
    AdamMini,
    AdamW,
    Apollo,
    BAdamLayer,
    BAdamRatio,
    Galore,
    Lion,
    Muon,
    OtherOptimizer,
    Sgd,
    Spec,
)

GALORE = {"adamw": "AdamW", "adamw-8bit": "AdamW8bit", "adafactor": "Adafactor"}


def optimizer_class(spec: Spec) -> str:
    """Return the class that the run makes, and what it leaves to others."""
    optimizer = spec.optimizer
    match optimizer:
        case AdamW() if spec.deepspeed.offload_optimizer != "none":
            name = "deepspeed.ops.adam.DeepSpeedCPUAdam"
        case AdamW() | Lion() if optimizer.state != "fp32":
            kind = "AdamW" if isinstance(optimizer, AdamW) else "Lion"
            name = f"bitsandbytes.optim.{kind}, state in {optimizer.state}"
        case AdamW():
            name = "torch.optim.AdamW"
        case Lion():
            name = "Lion, by tunec"
        case Sgd():
            name = "torch.optim.SGD"
        case AdaFactor():
            name = "transformers.optimization.Adafactor"
        case AdamMini():
            name = "adam_mini.Adam_mini"
        case Muon() if spec.deepspeed.zero_stage:
            name = "DeepSpeed's MuonWithAuxAdam on matrices with the update of torch.optim.Muon, AdamW on the rest"
        case Muon():
            name = "torch.optim.Muon on matrices, torch.optim.AdamW on the rest"
        case Galore():
            name = f"galore_torch.GaLore{GALORE[optimizer.base]}"
        case Apollo():
            name = "apollo_torch.APOLLOAdamW"
        case BAdamLayer():
            name = "badam.BlockOptimizer over torch.optim.AdamW"
        case BAdamRatio():
            name = "badam.BlockOptimizerRatio"
        case OtherOptimizer():
            name = f"`{optimizer.name}` of transformers"
    layerwise = isinstance(optimizer, Galore | Apollo) and optimizer.layerwise
    return f"{name}, a parameter at a time in the backward pass" if layerwise else name
