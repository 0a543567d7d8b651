"""Bytes that an optimizer keeps for the trained parameters: its state, copies in fp32, and an average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..facts import ModelFacts
from ..facts.weights import TensorFacts
from ..spec import (
    AdaFactor,
    AdamMini,
    AdamW,
    Apollo,
    BAdamLayer,
    BAdamRatio,
    Freeze,
    Full,
    Galore,
    Lion,
    Lisa,
    Muon,
    OtherOptimizer,
    Sgd,
    Spec,
)
from .modules import BLOCK, num_blocks

ADAM, ONE_MOMENT = 8, 4
"""Bytes a parameter in fp32: two moments, or one."""
NAMED: Mapping[str, int] = {
    "adagrad": 4,
    "adamw_torch_4bit": 1,
    "adamw_torch_8bit": 2,
    "ademamix": 12,
    "ademamix_8bit": 3,
    "paged_ademamix_32bit": 12,
    "paged_ademamix_8bit": 3,
    "rmsprop": 4,
    "rmsprop_bnb": 4,
    "rmsprop_bnb_32bit": 4,
    "rmsprop_bnb_8bit": 1,
    "schedule_free_sgd": 4,
}
"""Bytes a parameter by names of transformers; 8 for any other."""


def state_bytes(spec: Spec, model: ModelFacts, trainable: int) -> int:
    """Return the bytes of all processes together: state, and the fp32 copies of mixed precision.

    Matrices are told apart only where the model's own weights are trained; of adapters their number is what counts.
    """
    state = _state(spec, model, trainable)
    if spec.training.precision == "pure-bf16":
        halved = spec.deepspeed.offload_optimizer == "none" and _follows_weights(spec)
        copies = 2 * trainable if spec.deepspeed.zero_stage else 0
        return (state // 2 if halved else state) + copies
    return state + (0 if spec.training.precision == "fp32" else 4 * trainable)


def average_bytes(spec: Spec, trainable: int) -> int:
    """Return the bytes of the average of the weights, which every process has whole."""
    return 0 if spec.training.ema_decay is None else 4 * trainable


def _state(spec: Spec, model: ModelFacts, trainable: int) -> int:
    optimizer, whole = spec.optimizer, isinstance(spec.method, Full | Freeze | Lisa)
    tensors = (model.tensors or {}) if whole else {}
    match optimizer:
        case AdamW() | Lion():
            full = ADAM if isinstance(optimizer, AdamW) else ONE_MOMENT
            if not optimizer.state.endswith("8bit"):
                return full * trainable
            # Embeddings keep their state in fp32.
            kept = _embeddings(spec, tensors)
            return full // 4 * max(trainable - kept, 0) + full * min(kept, trainable)
        case Sgd():
            return ONE_MOMENT * trainable if optimizer.momentum else 0
        case AdamMini():
            return ONE_MOMENT * trainable  # the second moments are one number a head or neuron
        case AdaFactor():
            return _share(_factored(tensors), tensors, trainable, 1 / 64)
        case Muon():
            return _share(_orthogonal(tensors), tensors, trainable, ONE_MOMENT)
        case Galore() | Apollo():
            return _share(_projected(optimizer, tensors), tensors, trainable, ADAM)
        case BAdamLayer():
            return (ADAM if _is_fp32(spec) else ADAM + 4) * _largest_block(model, trainable)
        case BAdamRatio():
            return int(trainable * optimizer.ratio * ADAM)
        case OtherOptimizer():
            return NAMED.get(optimizer.name, ADAM) * trainable


def _share(
    found: Iterator[float], tensors: Mapping[str, TensorFacts], trainable: int, otherwise: float
) -> int:
    """Return the sum over all tensors, less where some of them are frozen; so many bytes each without any."""
    total = sum(tensor.count for tensor in tensors.values())
    return int(sum(found) * min(1.0, trainable / total) if total else otherwise * trainable)


def _factored(tensors: Mapping[str, TensorFacts]) -> Iterator[float]:
    """Yield the bytes of rows and columns; of vectors all of them."""
    for tensor in tensors.values():
        *outer, rows, columns = (1, *tensor.shape) if len(tensor.shape) == 1 else tensor.shape
        count = 1
        for size in outer:
            count *= size
        yield 4 * tensor.count if len(tensor.shape) < 2 else 4 * count * (rows + columns)


def _orthogonal(tensors: Mapping[str, TensorFacts]) -> Iterator[float]:
    for name, tensor in tensors.items():
        is_matrix = len(tensor.shape) == 2 and BLOCK.search(name)
        yield (ONE_MOMENT if is_matrix else ADAM) * tensor.count


def _projected(optimizer: Galore | Apollo, tensors: Mapping[str, TensorFacts]) -> Iterator[float]:
    """Yield the bytes of moments of low rank and of the projection; of all else the moments."""
    width = {"adamw-8bit": 2, "adafactor": 0}.get(getattr(optimizer, "base", ""), ADAM)
    targets = optimizer.targets
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        is_target = len(tensor.shape) == 2 and (
            bool(BLOCK.search(name))
            if targets == "all-linear"
            else any(module == each or module.endswith(f".{each}") for each in targets)
        )
        if not is_target:
            yield (width or ADAM) * tensor.count
            continue
        small, large = sorted(tensor.shape)
        rank = min(optimizer.rank, small)
        yield rank * (width * large + 4 * small)


def _embeddings(spec: Spec, tensors: Mapping[str, TensorFacts]) -> int:
    if isinstance(spec.method, Freeze):
        return 0
    return sum(t.count for name, t in tensors.items() if "embed" in name or "wte" in name)


def _largest_block(model: ModelFacts, trainable: int) -> int:
    sizes: dict[str, int] = {}
    for name, tensor in (model.tensors or {}).items():
        if found := BLOCK.search(name):
            sizes[found[1]] = sizes.get(found[1], 0) + tensor.count
    return max(sizes.values(), default=trainable // (num_blocks(model) or 1))


def _is_fp32(spec: Spec) -> bool:
    return spec.training.precision == "fp32"


def _follows_weights(spec: Spec) -> bool:
    """Tell whether moments have the number format of the weights: those of torch and its like."""
    kept = getattr(spec.optimizer, "state", "fp32")
    return kept == "fp32" and not isinstance(spec.optimizer, BAdamLayer | BAdamRatio)
