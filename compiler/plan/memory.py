"""The memory forecast: states exactly, activations by counting what the backward pass keeps."""

from __future__ import annotations

from ..facts import Facts
from ..spec import Full, Spec
from .model import Batch, Memory, Parameters

LOSS_CHUNK_BYTES = 3 * 64 * 2**20
"""Logits of one chunk, their exponentials and the gradient (see the fused loss of the runtime)."""
PROCESS_BYTES = {"cpu": 1_000 * 2**20, "gpu": 1_200 * 2**20}
"""Interpreter, libraries and allocator slack; on a GPU its context."""


def estimate(
    spec: Spec, facts: Facts, batch: Batch, parameters: Parameters | None
) -> Memory | None:
    """Return the expected peak of one process, or None where the model is not here.

    States follow Rajbhandari et al. 2019 (arXiv:1910.02054, section 3): 4 bytes a gradient and 8 bytes of Adam
    moments in fp32; in 16 bits 2 bytes a gradient and 12 of moments and master weights. Stages 1, 2 and 3 divide
    optimizer state, gradients and weights by the number of processes.
    """
    if parameters is None:
        return None
    width = 4 if spec.training.precision == "fp32" else 2
    stage, shards = spec.deepspeed.zero_stage, batch.processes
    weights = parameters.total * width // (shards if stage == 3 else 1)
    gradients = parameters.trainable * width // (shards if stage >= 2 else 1)
    states = parameters.trainable * (8 if width == 4 else 12) // (shards if stage >= 1 else 1)
    offloaded = spec.deepspeed.offload_optimizer == "cpu" and spec.launch.device == "gpu"
    saved = parameters.trainable * (12 if width == 4 else 14)
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=0 if offloaded else states,
        activations=_activations(spec, facts, batch, width),
        other=PROCESS_BYTES[spec.launch.device] + LOSS_CHUNK_BYTES,
        host_optimizer=states if offloaded else 0,
        checkpoint=saved,
        final=(parameters.total if isinstance(spec.method, Full) else parameters.trainable) * width,
    )


def _activations(spec: Spec, facts: Facts, batch: Batch, width: int) -> int:
    """Bytes kept for the backward pass by a pre-norm decoder, at full sample length.

    A layer keeps, for each token: two norm inputs and outputs, queries, keys and values before and after
    rotation, the attention output, and four vectors of the gated MLP. With gradient checkpointing only each
    layer's input stays, and one layer at a time is recomputed.
    """
    model = facts.model
    hidden = model.number("hidden_size") or 0
    layers = model.number("num_hidden_layers") or 0
    heads = model.number("num_attention_heads") or 1
    key_heads = model.number("num_key_value_heads") or heads
    inner = model.number("intermediate_size") or 4 * hidden
    keys = hidden * key_heads // heads
    layer = 4 * hidden + 2 * (hidden + keys) + keys + 2 * hidden + 4 * inner
    tokens = batch.micro * spec.data.max_length
    kept = layers * hidden + layer if spec.training.gradient_checkpointing else layers * layer
    return tokens * kept * width
