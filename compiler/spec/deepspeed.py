"""`[deepspeed]`: how state is spread over the processes."""

from __future__ import annotations

from typing import Literal

from .kinds import section

ZeroStage = Literal[0, 1, 2, 3]
Offload = Literal["none", "cpu", "nvme"]


@section
class DeepSpeed:
    """ZeRO (Rajbhandari et al. 2019, arXiv:1910.02054) and its buffers. All sizes are elements, not bytes."""

    zero_stage: ZeroStage = 2
    """0: nothing is sharded; 1: optimizer state; 2: and gradients; 3: and parameters."""

    offload_optimizer: Offload = "none"
    """Keep optimizer state and its update on the `cpu` (needs a stage above 0), or on `nvme` (stage 3)."""

    offload_parameters: Offload = "none"
    """Keep parameters on the `cpu` or on `nvme` (stage 3)."""

    nvme_dir: str | None = None
    """Folder on a fast local disk, for offloading to `nvme`."""

    pin_memory: bool | None = None
    """Pin the host memory that is offloaded to. Default: on GPUs."""

    overlap_communication: bool | None = None
    """Reduce gradients while the backward pass goes on. Default: on GPUs."""

    contiguous_gradients: bool = True
    """Copy gradients to one buffer as they are made."""

    round_robin_gradients: bool = False
    """Spread the copying of gradients to the host over the processes (stage 2 with offloading)."""

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

    sub_group_size: int = 1_000_000_000
    """Parameters updated at a time (stage 3)."""

    hpz_partition_size: int = 1
    """Processes that hold a second copy of the parameters among them (ZeRO++, arXiv:2306.10209)."""

    quantized_weights: bool = False
    """Send parameters in 8 bit (ZeRO++)."""

    quantized_gradients: bool = False
    """Send gradients in 4 bit (ZeRO++)."""

    timeout_s: int = 1800
    """Seconds a collective may take before the run ends."""
