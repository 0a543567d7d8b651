"""What a forward pass keeps for the backward pass, counted tensor by tensor."""

from __future__ import annotations

from attrs import frozen

from ..facts import ModelFacts
from ..spec import Freeze, Full, Grpo, Lisa, PolicyGenerator, Ppo, Spec, Targeted
from .adapted import adapted
from .batch import longest_row
from .counts import trained_blocks
from .modules import BLOCK, num_blocks

NARROW = (
    "q",
    "k",
    "v",
    "qkv",
    "query",
    "key",
    "value",
    "query_key_value",
    "c_attn",
    "gate",
    "up",
    "gate_up",
    "fc1",
)
"""Names, without `_proj`, of the layers whose input is as wide as the model: one tensor for those of attention, one for
those of the feed-forward network."""
FEEDFORWARD = ("gate", "up", "gate_up", "fc1")
INNER = ("down", "fc2", "dense_4h_to_h")


@frozen
class Sizes:
    """Elements a token has at each place of a block."""

    hidden: int
    queries: int
    keys: int
    inner: int

    @property
    def flow(self) -> int:
        """What any block keeps through which gradients flow.

        The inputs of both norms, queries, keys, values and the result of attention, and of the gated feed-forward
        network the gate before and after its activation and what is multiplied with it.
        """
        return 2 * self.hidden + 2 * self.queries + 2 * self.keys + 3 * self.inner

    @property
    def norms(self) -> int:
        """What trained norms keep: their normalised input."""
        return 2 * self.hidden

    def inputs(self, layers: set[str]) -> int:
        """Return the inputs of trained or adapted layers; those of the last of attention are its result, kept already."""
        names = {name.removesuffix("_proj") for name in layers}
        attention = names & set(NARROW) - set(FEEDFORWARD)
        return (
            (self.hidden if attention else 0)
            + (self.hidden if names & set(FEEDFORWARD) else 0)
            + (self.inner if names & set(INNER) else 0)
        )

    @property
    def everything(self) -> int:
        """What a block keeps that is trained as a whole."""
        return self.flow + self.norms + self.inputs({"q", "gate", "down"})

    @property
    def passing(self) -> int:
        """What one block needs for a while in the backward pass: gradients of the feed-forward network."""
        return 3 * self.inner + 2 * self.hidden


def sizes(model: ModelFacts) -> Sizes:
    """Return the sizes of a model's blocks; 0 where the configuration does not tell."""
    hidden = model.number("hidden_size") or 0
    heads = model.number("num_attention_heads") or 1
    key_heads = model.number("num_key_value_heads") or heads
    width = model.number("head_dim") or hidden // heads
    inner = model.number("intermediate_size") or 4 * hidden
    return Sizes(hidden, heads * width, key_heads * width, inner)


def activation_bytes(spec: Spec, model: ModelFacts, *, micro: int, width: int) -> int:
    """Return the bytes kept for the backward pass by a pre-norm decoder with `micro` samples of full length.

    With gradient checkpointing only each block's input stays, and one block at a time is computed again. Blocks below
    the first that is trained keep nothing.
    """
    size = sizes(model)
    kept = _kept(spec, model, size)
    most = max(kept, default=0)
    if spec.training.gradient_checkpointing:
        # Offloaded ones are on the host.
        inputs = 0 if spec.training.offload_activations else len(kept) * size.hidden
        total = inputs + most
    else:
        total = sum(kept)
    # The final norm, and its result picked for the head.
    ends = 4 * size.hidden
    return micro * longest_row(spec) * (total + size.passing + ends) * width


def cache_bytes(spec: Spec, model: ModelFacts, *, answers: int, width: int) -> int:
    """Return the bytes of keys and values while so many answers are generated, each at its longest."""
    if not isinstance(spec.objective, Ppo | Grpo) or not spec.generation.kv_cache:
        return 0
    if not isinstance(spec.objective.generator, PolicyGenerator):
        return 0
    blocks = num_blocks(model) or 0
    return answers * longest_row(spec) * 2 * sizes(model).keys * blocks * width


def hole_bytes(spec: Spec, model: ModelFacts, *, micro: int, width: int, activations: int) -> int:
    """Return the bytes that the C library's allocator holds on to between tensors that are kept; 0 on a GPU.

    No formula: shares of what is kept (with checkpointing, of what one block keeps), fitted to the measurements in
    `benchmarks/README.md`. Adapters leave more of them, since each makes results that are gone at once.
    """
    if spec.launch.device != "cpu":
        return 0
    share, blocks = _holes(spec)
    if not spec.training.gradient_checkpointing:
        return int(share * activations)
    most = max(_kept(spec, model, sizes(model)), default=0)
    return blocks * micro * longest_row(spec) * most * width


def _holes(spec: Spec) -> tuple[float, int]:
    if isinstance(spec.method, Freeze):
        return 0.0, 6
    if isinstance(spec.method, Full | Lisa):
        return 0.25, 12
    return (0.83, 20) if spec.quantization.type == "none" else (1.16, 34)


def _kept(spec: Spec, model: ModelFacts, size: Sizes) -> list[int]:
    """Return the elements a token keeps in each block, from the first through which gradients flow."""
    method, count = spec.method, num_blocks(model) or 0
    if isinstance(method, Full | Lisa):
        return [size.everything] * count
    if isinstance(method, Freeze):
        trained = trained_blocks(method, count)
        first = 0 if _trains_embeddings(method) else min(trained, default=0)
        return [size.everything if block in trained else size.flow for block in range(first, count)]
    if not isinstance(method, Targeted):
        return [size.flow] * count
    layers: dict[int, set[str]] = {}
    added: dict[int, int] = {}
    for name, tensor in adapted(method, model).items():
        found = BLOCK.search(name)
        if found is not None:
            block = int(found[1])
            layers.setdefault(block, set()).add(name.rpartition(".")[2])
            added[block] = added.get(block, 0) + _beside(method, tensor.shape)
    first = 0 if method.full_modules else min(layers, default=0)
    return [
        size.flow + size.inputs(layers.get(block, set())) + added.get(block, 0)
        for block in range(first, count)
    ]


def _beside(method: Targeted, shape: tuple[int, ...]) -> int:
    """Return what an adapter keeps beside its input: of low rank that many numbers, elsewhere its input, turned."""
    rank = getattr(method, "initial_rank", None) or getattr(method, "rank", None)
    if rank is None:
        return shape[-1]
    # DoRA's magnitudes multiply the result.
    return int(rank) + (shape[0] if getattr(method, "dora", False) else 0)


def _trains_embeddings(method: Freeze) -> bool:
    return any("embed" in name or name in ("wte", "lm_head") for name in method.extra_modules)
