"""The classes of a plan: everything decided, nothing left to look up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from ..diagnostics import SpecPath
from ..facts import Facts
from ..rules.memory import Memory, Parameters
from ..spec import Spec


@frozen
class Derived:
    """A value the spec does not give, and why it is what it is."""

    path: SpecPath
    value: Any
    reason: str


@frozen
class Batch:
    """Samples of one optimizer step: `total = micro x accumulation x processes`, or in micro batches by tokens."""

    total: int
    micro: int
    """By tokens, the number of the longest samples."""
    accumulation: int | None
    """None by tokens: it varies from step to step."""
    processes: int
    eval_micro: int | None
    """None: by tokens, as in training."""
    tokens: int | None = None
    """Tokens of a micro batch, where they are formed by tokens."""


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
class AdapterPlan:
    """Adapters in numbers: where they go, and the sizes that their method has."""

    targets: tuple[str, ...] | str
    """`all-linear` where the model is not here; empty for methods without targets."""
    num_modules: int | None
    """None where the model is not here, or the method adapts no modules."""
    rank: int | None = None
    alpha: float | None = None
    feedforward: tuple[str, ...] = ()
    """Targets of (IA)³ whose input is scaled."""


@frozen
class Plan:
    """What will happen."""

    spec: Spec
    spec_name: str
    spec_sha256: str
    facts: Facts
    batch: Batch
    duration: Duration
    adapter: AdapterPlan | None
    parameters: Parameters | None
    memory: Memory | None
    deepspeed: Mapping[str, Any]
    derived: tuple[Derived, ...]
    fingerprint: str
    """sha256 of everything that decides what is trained; a checkpoint belongs to one fingerprint."""
    unknown: tuple[str, ...]
    """What could not be known here, in words."""
