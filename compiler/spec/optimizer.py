"""`[optimizer]`: the update rule."""

from __future__ import annotations

from typing import Literal

from attrs import field

from .kinds import Scalar, section
from .method import Targets


@section
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    type: Literal["adamw"] = "adamw"
    """`adamw`: AdamW."""

    beta1: float = 0.9
    """Decay of the first moment."""

    beta2: float = 0.999
    """Decay of the second moment."""

    epsilon: float = 1e-8
    """Added to the denominator."""

    weight_decay: float = 0.0
    """Decoupled weight decay; biases and norm weights are left out."""

    state: Literal["fp32", "8bit", "paged-32bit", "paged-8bit"] = "fp32"
    """How the moments are kept: `fp32`, or by bitsandbytes in 8 bit or paged between GPU and host."""


@section
class AdaFactor:
    """Adafactor: factored second moments (Shazeer and Stern 2018, arXiv:1804.04235)."""

    type: Literal["adafactor"]
    """`adafactor`: Adam with far less state."""

    weight_decay: float = 0.0
    """Decoupled weight decay."""


@section
class Sgd:
    """Stochastic gradient descent."""

    type: Literal["sgd"]
    """`sgd`: gradient descent."""

    momentum: float = 0.0
    """Momentum."""

    weight_decay: float = 0.0
    """Weight decay."""


@section
class Lion:
    """Lion: the sign of the momentum (Chen et al. 2023, arXiv:2302.06675)."""

    type: Literal["lion"]
    """`lion`: one moment, sign updates."""

    beta1: float = 0.9
    """Mix of momentum and gradient in the update."""

    beta2: float = 0.99
    """Decay of the momentum."""

    weight_decay: float = 0.0
    """Decoupled weight decay."""

    state: Literal["fp32", "8bit", "paged-32bit", "paged-8bit"] = "fp32"
    """How the moment is kept."""


@section
class AdamMini:
    """Adam-mini: one second moment a block (Zhang et al. 2024, arXiv:2406.16793)."""

    type: Literal["adam-mini"]
    """`adam-mini`: Adam with half the state."""

    beta1: float = 0.9
    """Decay of the first moment."""

    beta2: float = 0.999
    """Decay of the second moment."""

    epsilon: float = 1e-8
    """Added to the denominator."""

    weight_decay: float = 0.0
    """Decoupled weight decay."""


@section
class Muon:
    """Muon: orthogonalised momentum for matrices, AdamW for the rest (arXiv:2502.16982)."""

    type: Literal["muon"]
    """`muon`: orthogonal updates."""

    momentum: float = 0.95
    """Momentum."""

    newton_schulz_steps: int = 5
    """Iterations of the orthogonalisation."""

    weight_decay: float = 0.0
    """Decoupled weight decay."""


@section
class Galore:
    """GaLore: gradients projected to low rank (Zhao et al. 2024, arXiv:2403.03507)."""

    type: Literal["galore"]
    """`galore`: full training with the state of a low-rank one."""

    base: Literal["adamw", "adamw-8bit", "adafactor"] = "adamw"
    """The optimizer that works on projected gradients."""

    targets: Targets = "all-linear"
    """Modules whose gradients are projected."""

    rank: int = 16
    """Rank of the projection."""

    interval: int = 200
    """Steps between two projections."""

    scale: float = 2.0
    """Scale of the update."""

    projection: Literal["std", "reverse-std", "right", "left", "full"] = "std"
    """Side that is projected."""

    layerwise: bool = False
    """Update each parameter in the backward pass, which spares the gradients."""

    weight_decay: float = 0.0
    """Decoupled weight decay."""


@section
class Apollo:
    """APOLLO: learning rates from projected gradients (Zhu et al. 2024, arXiv:2412.05270)."""

    type: Literal["apollo"]
    """`apollo`: memory like SGD, steps like Adam."""

    targets: Targets = "all-linear"
    """Modules whose gradients are projected."""

    rank: int = 16
    """Rank of the projection."""

    interval: int = 200
    """Steps between two projections."""

    scale: float = 32.0
    """Scale of the update."""

    projection: Literal["random", "svd"] = "random"
    """Kind of projection."""

    side: Literal["std", "right", "left"] = "std"
    """Side that is projected."""

    scaling: Literal["channel", "tensor"] = "channel"
    """Learning rates a channel (APOLLO) or a tensor (APOLLO-Mini)."""

    layerwise: bool = False
    """Update each parameter in the backward pass, which spares the gradients."""

    limit_after_scaling: bool = False
    """Limit the growth of the norm after scaling instead of before it."""

    weight_decay: float = 0.0
    """Decoupled weight decay."""


@section
class BAdamLayer:
    """BAdam: Adam on one block of layers at a time (Luo et al. 2024, arXiv:2404.02827)."""

    type: Literal["badam"]
    """`badam`: full training, a block at a time."""

    order: Literal["ascending", "descending", "random", "fixed"] = "ascending"
    """Order in which blocks are visited."""

    start_block: int | None = None
    """First block. Default: the end the order begins with."""

    interval: int = 50
    """Steps for each block."""

    weight_decay: float = 0.0
    """Decoupled weight decay."""

    verbose: Literal[0, 1, 2] = 0
    """How much it prints."""


@section
class BAdamRatio:
    """BAdam's ratio mode: Adam on a share of each matrix."""

    type: Literal["badam-ratio"]
    """`badam-ratio`: full training, a share of the parameters at a time."""

    ratio: float = 0.05
    """Share of the parameters."""

    mask: Literal["adjacent", "scatter"] = "adjacent"
    """Whether they are neighbours or spread."""

    interval: int = 50
    """Steps for each choice."""

    weight_decay: float = 0.0
    """Decoupled weight decay."""

    verbose: Literal[0, 1, 2] = 0
    """How much it prints."""


@section
class OtherOptimizer:
    """Another optimizer that transformers knows by name."""

    type: Literal["transformers"]
    """`transformers`: an optimizer by its name in transformers."""

    name: str
    """Its name, such as `schedule_free_adamw` or `ademamix`."""

    options: dict[str, Scalar] = field(factory=dict)
    """Options handed on to it."""

    targets: Targets | None = None
    """Modules it treats specially. Default: none."""

    weight_decay: float = 0.0
    """Decoupled weight decay."""


Optimizer = (
    AdamW
    | AdaFactor
    | Sgd
    | Lion
    | AdamMini
    | Muon
    | Galore
    | Apollo
    | BAdamLayer
    | BAdamRatio
    | OtherOptimizer
)
