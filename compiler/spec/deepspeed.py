"""`[deepspeed]`: how state is spread over the processes."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

ZeroStage = Literal[0, 1, 2, 3]
Offload = Literal["none", "cpu"]


@frozen(kw_only=True)
class DeepSpeed:
    """ZeRO (Rajbhandari et al. 2019, arXiv:1910.02054) and its buffers. All sizes are elements, not bytes."""

    zero_stage: ZeroStage = 2
    """0: nothing is sharded; 1: optimizer state; 2: and gradients; 3: and parameters."""

    offload_optimizer: Offload = "none"
    """Keep optimizer state and its update on the `cpu` (needs a stage above 0)."""

    reduce_bucket_size: int = 50_000_000
    """Elements reduced at a time."""

    allgather_bucket_size: int = 50_000_000
    """Elements gathered at a time (stages 1 and 2)."""

    prefetch_bucket_size: int = 50_000_000
    """Elements fetched ahead (stage 3)."""

    persistence_threshold: int = 100_000
    """Parameters below this size stay whole on each process (stage 3)."""

    max_live_parameters: int = 1_000_000_000
    """Most parameters held whole at a time (stage 3)."""

    max_reuse_distance: int = 1_000_000_000
    """A parameter needed again within this many elements is kept (stage 3)."""
