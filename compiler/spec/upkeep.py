"""`[checkpoints]`, `[evaluation]` and `[logging]`: what a run leaves behind while it goes."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Checkpoints:
    """Complete training state, to resume from."""

    every_steps: int = 100
    """Save each time this many steps are done; 0 saves only when the run is stopped or ends."""

    keep: int = 2
    """Complete checkpoints kept; older ones are deleted."""


@frozen(kw_only=True)
class Evaluation:
    """Loss on the evaluation rows; also measured at the end."""

    every_steps: int | None = None
    """Evaluate each time this many steps are done. Default: at the end only."""

    micro_size: int | None = None
    """Samples of one forward pass. Default: that of training."""


@frozen(kw_only=True)
class Logging:
    """Numbers and pictures."""

    every_steps: int = 10
    """Write a line of metrics each time this many steps are done."""

    plot: bool = True
    """Draw the loss curve as PNG at the end."""
