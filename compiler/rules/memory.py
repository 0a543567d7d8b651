"""Expected memory: states exactly, activations by counting what the backward pass keeps."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from ..diagnostics import Diagnostic, Label, error
from ..facts import Facts
from ..facts.sample_kinds import wanted_by
from ..spec import Full, RewardModel, Spec
from .activations import activation_bytes, cache_bytes, hole_bytes
from .batch import global_size, longest_row, micro_size
from .common import WHOLE
from .counts import trained_and_added
from .optimizer_memory import average_bytes, state_bytes
from .quantized_size import quantized_bytes
from .reference_memory import reference_bytes, saved_bytes
from .reward_memory import reward_bytes
from .rule import Rule
from .world import num_processes

GIB = 2**30

LOSS_CHUNK_BYTES = 3 * 64 * 2**20
"""Logits of one chunk, their exponentials and the gradient (see the fused loss of the runtime)."""
PROCESS_BYTES = {"cpu": 430 * 2**20, "gpu": 1_200 * 2**20}
"""Interpreter and libraries; on a GPU its context and allocator slack."""


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
    reference: int = 0
    """Bytes of what the policy is compared with."""
    rewards: int = 0
    """Bytes of reward models."""
    cache: int = 0
    """Bytes of keys and values while answers are generated, when there are no activations."""
    reference_saved: int | None = None
    """Bytes that log-probabilities computed beforehand save; None where nothing is."""

    @property
    def total(self) -> int:
        """Bytes on the device."""
        states = self.weights + self.gradients + self.optimizer + self.reference
        return states + self.rewards + max(self.activations, self.cache) + self.other


def count_parameters(spec: Spec, facts: Facts) -> Parameters | None:
    """Return how many parameters there are, or None where the model or the method does not tell."""
    total, counted = facts.model.parameter_count(), trained_and_added(spec, facts)
    if total is None or counted is None:
        return None
    trained, added = counted
    return Parameters(total + added, trained)


def estimate(spec: Spec, facts: Facts, micro: int, parameters: Parameters | None) -> Memory | None:
    """Return the expected peak of one process, or None where the model is not here.

    States follow Rajbhandari et al. 2019 (arXiv:1910.02054, section 3): 4 bytes a gradient in fp32, 2 in 16 bits, and
    what the optimizer keeps, which is 8 bytes of moments for Adam, and 4 of master weights in 16 bits. Stages 1, 2 and 3
    divide optimizer state, gradients and weights by the number of processes.
    """
    if parameters is None:
        return None
    width = 4 if spec.training.precision == "fp32" else 2
    stage, shards = spec.deepspeed.zero_stage, num_processes(spec.launch)
    weights = quantized_bytes(spec, facts, parameters.total, width) // (shards if stage == 3 else 1)
    gradients = parameters.trainable * width // (shards if stage >= 2 else 1)
    kept = state_bytes(spec, facts.model, parameters.trainable)
    average = average_bytes(spec, parameters.trainable)
    states = kept // (shards if stage >= 1 else 1)
    offloaded = spec.deepspeed.offload_optimizer == "cpu" and spec.launch.device == "gpu"
    written = parameters.total if isinstance(spec.method, WHOLE) else parameters.trainable
    saved = kept + average + written * width
    # Both answers of a pair are rows of one micro batch.
    rows = 2 * micro if wanted_by(spec.objective) == "pairs" else micro
    activations = activation_bytes(spec, facts.model, micro=rows, width=width)
    holes = hole_bytes(spec, facts.model, micro=rows, width=width, activations=activations)
    chunk = 0 if isinstance(spec.objective, RewardModel) else LOSS_CHUNK_BYTES
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=average + (0 if offloaded else states),
        activations=activations,
        other=PROCESS_BYTES[spec.launch.device] + chunk + holes,
        host_optimizer=states if offloaded else 0,
        checkpoint=saved,
        final=written * width,
        reference=reference_bytes(spec, facts, parameters.total, parameters.trainable, width),
        rewards=reward_bytes(spec, facts, width),
        cache=cache_bytes(spec, facts.model, answers=_at_once(spec, micro), width=width),
        reference_saved=saved_bytes(spec, facts, parameters.total, parameters.trainable, width),
    )


def _at_once(spec: Spec, micro: int) -> int:
    """Return how many answers a process generates at once: its share of those of a step."""
    total = global_size(spec)
    return micro if total is None else -(-total // max(num_processes(spec.launch), 1))


def check_memory(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The run is expected to need more memory than the device has.

    The forecast counts weights, gradients and optimizer state exactly and activations by what the backward pass
    keeps at full sample length; short samples need less. `tunec plan` shows its parts.

    Fails:
    ```toml
    [launch]
    memory_gib = 0.5
    ```
    Passes:
    ```toml
    [launch]
    memory_gib = 80.0
    ```
    """
    limit, micro = spec.launch.memory_gib, micro_size(spec)
    if limit is None or micro is None:
        return
    memory = estimate(spec, facts, micro, count_parameters(spec, facts))
    if memory is not None and memory.total > limit * GIB:
        yield error(
            "R830",
            f"a process is expected to need {memory.total / GIB:.1f} GiB, the device has {limit:g}",
            ("launch", "memory_gib"),
            label=f"{limit:g} GiB a device",
            labels=tuple(_largest(spec, memory, micro)),
            helps=tuple(_ways_out(spec, memory)),
        )


def _largest(spec: Spec, memory: Memory, micro: int) -> Iterator[Label]:
    if memory.activations > memory.total / 4:
        size = f"{memory.activations / GIB:.1f} GiB of activations: {micro} samples"
        yield Label(("data", "max_length"), f"{size} of {longest_row(spec)} tokens")
    if memory.cache > max(memory.activations, memory.total / 4):
        size = f"{memory.cache / GIB:.1f} GiB of keys and values: {_at_once(spec, micro)} answers"
        yield Label(("generation", "max_new_tokens"), f"{size} at once")
    if memory.weights > memory.total / 4:
        yield Label(("model", "path"), f"{memory.weights / GIB:.1f} GiB of weights")
    if memory.reference > memory.total / 4:
        yield Label(("objective", "type"), f"{memory.reference / GIB:.1f} GiB of reference")
    if memory.gradients + memory.optimizer > memory.total / 4:
        states = (memory.gradients + memory.optimizer) / GIB
        yield Label(("method", "type"), f"{states:.1f} GiB of gradients and optimizer state")


def _ways_out(spec: Spec, memory: Memory) -> Iterator[str]:
    if memory.activations > memory.total / 4:
        by_tokens = spec.batch.micro_tokens is not None
        size = (
            "`batch.micro_tokens`"
            if by_tokens
            else "`batch.micro_size` (and raise `accumulation_steps`)"
        )
        yield f"lower {size} or `data.max_length`"
        if not spec.training.gradient_checkpointing:
            yield "set `training.gradient_checkpointing = true`"
    if memory.cache > max(memory.activations, memory.total / 4):
        yield "lower the answers of a step (`batch`), or `generation.max_new_tokens`"
    if memory.reference > memory.total / 4 and wanted_by(spec.objective) in ("pairs", "labels"):
        yield 'compute the reference beforehand: `reference = { type = "precomputed" }`'
    if isinstance(spec.method, Full) and memory.gradients + memory.optimizer > memory.total / 4:
        yield 'train adapters: `[method] type = "lora"`'
        if spec.deepspeed.zero_stage < 3 and num_processes(spec.launch) > 1:
            yield "spread the state: `deepspeed.zero_stage = 3`"
    if memory.weights > memory.total / 4 and spec.deepspeed.zero_stage < 3:
        yield "spread the weights over more processes: `deepspeed.zero_stage = 3`"


RULES = (Rule("R830", "not enough memory", factual=check_memory),)
