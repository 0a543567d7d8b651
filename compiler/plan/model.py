"""The classes of a plan: everything decided, nothing left to look up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from ..diagnostics import SpecPath
from ..facts import Facts
from ..spec import Spec


@frozen
class Derived:
    """A value the spec does not give, and why it is what it is."""

    path: SpecPath
    value: Any
    reason: str


@frozen
class Batch:
    """Samples of one optimizer step: `total = micro x accumulation x processes`."""

    total: int
    micro: int
    accumulation: int
    processes: int
    eval_micro: int


@frozen
class Duration:
    """How long the training is. A number that only the prepared data can tell is None."""

    num_rows: int | None
    """Training rows, without those held out."""
    num_eval: int | None
    num_steps: int | None
    num_epochs: float
    warmup_steps: int | None
    warmup_ratio: float
    num_tokens: int | None
    """Tokens of one pass, guessed from the size of the files."""


@frozen
class LoraPlan:
    """Adapters in numbers. `targets` is `all-linear` and the counts are None where the model is not here."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...] | str
    num_modules: int | None


@frozen
class Parameters:
    """Numbers of parameters."""

    total: int
    trainable: int


@frozen
class Memory:
    """Bytes one process is expected to need at its peak."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    other: int
    host_optimizer: int
    """Bytes of optimizer state kept on the host by offloading."""
    checkpoint: int
    """Bytes of one checkpoint on disk."""
    final: int
    """Bytes of the final weights on disk."""

    @property
    def total(self) -> int:
        """Bytes on the device."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.other


@frozen
class Plan:
    """What will happen."""

    spec: Spec
    spec_name: str
    spec_sha256: str
    facts: Facts
    batch: Batch
    duration: Duration
    lora: LoraPlan | None
    parameters: Parameters | None
    memory: Memory | None
    deepspeed: Mapping[str, Any]
    derived: tuple[Derived, ...]
    fingerprint: str
    """sha256 of everything that decides what is trained; a checkpoint belongs to one fingerprint."""
    unknown: tuple[str, ...]
    """What could not be known here, in words."""
