"""`[method]`: which parameters are trained."""

from __future__ import annotations

from typing import Literal

from attrs import frozen


@frozen(kw_only=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) beside frozen weights."""

    type: Literal["lora"]
    """`lora`: train low-rank adapters, keep the model frozen."""

    rank: int = 8
    """Inner dimension of the adapters."""

    alpha: float | None = None
    """Scale of the adapters: the update is multiplied by `alpha / rank`. Default: twice the rank."""

    dropout: float = 0.0
    """Dropout on the adapters' input."""

    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Modules that get an adapter: `all-linear` (every linear layer but the output head), or a list of names
    such as `["q_proj", "v_proj"]`."""


@frozen(kw_only=True)
class Full:
    """All parameters."""

    type: Literal["full"]
    """`full`: train every parameter."""


Method = Lora | Full
