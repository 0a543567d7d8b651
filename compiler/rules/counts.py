"""How many parameters a method trains and adds, exactly: the sums of the shapes that PEFT makes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping

from ..facts import Facts, ModelFacts
from ..facts.model import SCORE
from ..facts.weights import TensorFacts
from ..spec import (
    AdaLora,
    Boft,
    C3a,
    EvaInit,
    FourierFt,
    Freeze,
    Full,
    Hra,
    Ia3,
    Lisa,
    LnTuning,
    Loha,
    Lokr,
    Lora,
    Miss,
    Oft,
    Prefix,
    Prompt,
    PTuning,
    RandLora,
    RewardModel,
    Road,
    Shira,
    Spec,
    Targeted,
    VbLora,
    Vera,
)
from .adapted import adapted, embedding, has_experts_apart, in_full, is_called, norms
from .modules import BLOCK, expanded_blocks, num_blocks

FEEDFORWARD = ("down_proj", "fc2", "wo", "w2", "output_linear", "dense_4h_to_h", "c_proj")
"""Names of the last layer of a feed-forward network, whose input (IA)³ scales."""


def trained_and_added(spec: Spec, facts: Facts) -> tuple[int, int] | None:
    """Return the numbers of trained and of added parameters; None where the method or the model does not tell."""
    method, model = spec.method, facts.model
    total = model.parameter_count()
    if total is None:
        return None
    if isinstance(spec.objective, RewardModel) and not isinstance(method, Full | Lisa):
        counted = _by_method(spec, facts, total)
        tensors = model.tensors or {}
        head = tensors[SCORE].count if SCORE in tensors else 0
        # The head is trained in full: of an adapter a copy, of some blocks the one that is there.
        added = 0 if isinstance(method, Freeze) else head
        return None if counted is None else (counted[0] + head, counted[1] + added)
    return _by_method(spec, facts, total)


def _by_method(spec: Spec, facts: Facts, total: int) -> tuple[int, int] | None:
    method, model = spec.method, facts.model
    if isinstance(method, Full | Lisa):
        added = _routers(spec, model)
        return total - model.count_beside_language() + added, added
    if isinstance(method, Lora) and isinstance(method.init, EvaInit) and method.init.rho > 1:
        return None  # ranks go where the data say
    if isinstance(method, Freeze):
        return _frozen(method, model), 0
    if isinstance(method, Prompt | Prefix | PTuning):
        count = _virtual(method, model)
        return None if count is None else (count, count)
    if isinstance(method, LnTuning):
        count = sum(norms(method, model).values()) + in_full(model, method.full_modules)
        return count, count
    if not isinstance(method, Targeted) or _goes_to_experts(method, model):
        return None
    return _beside(method, model)


def _goes_to_experts(method: Targeted, model: ModelFacts) -> bool:
    parameters = method.parameters if isinstance(method, Lora) else ()
    return bool(method.targets == "all-linear" or parameters) and has_experts_apart(model)


def _routers(spec: Spec, model: ModelFacts) -> int:
    """Return the parameters of the routers that a conversion to mixture-of-depths adds to every other block."""
    size, blocks = model.number("hidden_size"), num_blocks(model)
    if spec.model.mixture_of_depths != "convert" or size is None or blocks is None:
        return 0
    inner = size // 2
    return blocks // 2 * (size + (size + 1) * inner + inner + 1)


def trained_blocks(method: Freeze, count: int) -> tuple[int, ...]:
    """Return the numbers of the blocks that are trained; of expanded ones the last in each group."""
    if method.expanded:
        return expanded_blocks(count, method.blocks)
    first = 0 if method.side == "first" else count - method.blocks
    return tuple(range(first, first + method.blocks))


def feedforward(method: Ia3, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the targets of (IA)³ whose input is scaled."""
    return method.feedforward or tuple(name for name in names if name in FEEDFORWARD)


def _frozen(method: Freeze, model: ModelFacts) -> int:
    blocks = trained_blocks(method, num_blocks(model) or 0)
    tensors, count = model.tensors or {}, 0
    for name, tensor in tensors.items():
        found = BLOCK.search(name)
        if found is None:
            module = name.rpartition(".")[0]
            trained = any(_is_inside(module, wanted) for wanted in method.extra_modules)
        else:
            inside = method.modules == "all" or any(
                _is_inside(found[2].rpartition(".")[0], wanted) for wanted in method.modules
            )
            trained = int(found[1]) in blocks and inside
        count += tensor.count if trained else 0
    embeds = embedding(model)
    if model.is_tied and embeds is not None and "lm_head" in method.extra_modules:
        module = embeds[0].rpartition(".")[0]
        is_counted = any(_is_inside(module, wanted) for wanted in method.extra_modules)
        count += 0 if is_counted else embeds[1].count
    return count


def _is_inside(module: str, wanted: str) -> bool:
    """Tell whether a module is the wanted one or a part of it."""
    return f".{wanted}." in f".{module}."


def _virtual(method: Prompt | Prefix | PTuning, model: ModelFacts) -> int | None:
    hidden, layers = model.number("hidden_size"), num_blocks(model)
    if hidden is None or layers is None:
        return None
    if isinstance(method, Prompt):
        return method.num_tokens * hidden
    if isinstance(method, PTuning):
        return method.num_tokens * hidden + _network(method, hidden)
    heads = model.number("num_attention_heads") or 1
    keys = hidden * (model.number("num_key_value_heads") or heads) // heads
    if method.projection:
        made = layers * 2 * keys
        return method.num_tokens * keys + keys * hidden + hidden + hidden * made + made
    return method.num_tokens * layers * 2 * keys


def _network(method: PTuning, width: int) -> int:
    """Return the parameters of the network behind virtual tokens of a width."""
    inner = method.hidden_size or width
    if method.network == "mlp":
        return (width + 1) * inner + (inner + 1) * inner + (inner + 1) * width
    inputs = [width] + [2 * inner] * (method.num_layers - 1)
    # Four gates in two directions, each with weights of inputs and of states and a bias for either.
    cells = sum(2 * 4 * inner * (into + inner + 2) for into in inputs)
    return cells + (2 * inner + 1) * 2 * inner + (2 * inner + 1) * width


def _beside(method: Targeted, model: ModelFacts) -> tuple[int, int]:
    modules = adapted(method, model)
    sizes = [_one(method, name, _widths(tensor, model)) for name, tensor in modules.items()]
    trained = sum(sizes) + in_full(model, method.full_modules)
    if isinstance(method, VbLora) and modules:
        trained += method.num_vectors * method.vector_length
    # AdaLoRA keeps the number of ranks of each module as a parameter that is not trained.
    added = trained + (len(modules) if isinstance(method, AdaLora) else 0)
    if isinstance(method, Lora) and method.freeze_a:
        trained -= sum(
            _pattern(method.rank_pattern, name, method.rank) * _widths(tensor, model)[0]
            for name, tensor in modules.items()
        )
    if isinstance(method, Lora):
        more = sum(_bare(method, model)) + _tokens(method, model)
        trained, added = trained + more, added + more
        trained += _biases(method, model, modules)
    return trained, added


def _widths(tensor: TensorFacts, model: ModelFacts) -> tuple[int, int]:
    """Return inputs and outputs of a layer; the weights of GPT-2 lie transposed."""
    out, into = tensor.shape
    return (out, into) if model.model_type == "gpt2" else (into, out)


def _one(method: Targeted, name: str, widths: tuple[int, int]) -> int:
    """Return the parameters beside one module."""
    into, out = widths
    match method:
        case Lora():
            rank = _pattern(method.rank_pattern, name, method.rank)
            return rank * (into + out) + (out if method.dora else 0)
        case AdaLora():
            return method.initial_rank * (into + out + 1)
        case Vera():
            return method.rank + out
        case Loha():
            return 2 * method.rank * (into + out)
        case Lokr():
            return _kronecker(method.rank, into, out)
        case Ia3():
            last = (name.rsplit(".", 1)[-1],)
            scaled = method.feedforward or last
            is_input = any(is_called(name, wanted) for wanted in feedforward(method, scaled))
            return into if is_input else out
        case Oft():
            size = into // method.num_blocks if method.num_blocks else _divisor(method, into)
            return into // size * (size * (size - 1) // 2)
        case Boft():
            return method.factors * into * method.block_size + out
    return _newer(method, into, out)


def _newer(method: Targeted, into: int, out: int) -> int:
    """Return the parameters beside one module of the methods of 2024 and later."""
    match method:
        case FourierFt():
            return method.frequencies
        case Hra():
            return into * method.rank
        case RandLora():
            bases = -(-min(into, out) // method.rank)
            return bases * (method.rank + min(into, out))
        case Miss():
            return method.rank * (method.mini_rank if method.variant == "mini" else out)
        case Shira():
            return method.rank * (into + out)
        case C3a():
            return into * out // method.block_size
        case Road():
            return method.variant * out
        case VbLora():
            return method.rank * (into + out) // method.vector_length * method.num_vectors
    raise TypeError(type(method).__name__)


def _divisor(method: Oft, into: int) -> int:
    """Return the size of a block as PEFT takes it: the nearest one that divides the layer."""
    size = method.block_size or 32
    if size > into or into % size:
        higher = next((n for n in range(size, into + 1) if into % n == 0), into)
        lower = next((n for n in range(min(size, into), 0, -1) if into % n == 0), 1)
        return lower if size - lower <= higher - size else higher
    return size


def _kronecker(rank: int, into: int, out: int) -> int:
    (in_m, in_n), (out_l, out_k) = _factors(into), _factors(out)
    second = rank * (out_k + in_n) if rank < max(out_k, in_n) / 2 else out_k * in_n
    return out_l * in_m + second


def _factors(width: int) -> tuple[int, int]:
    """Return the two factors of a width that are nearest to each other, the smaller first."""
    root = next(n for n in range(int(width**0.5), 0, -1) if width % n == 0)
    return root, width // root


def _pattern(patterns: Mapping[str, int], name: str, default: int) -> int:
    """Return the value of the first pattern that fits the end of a module's name."""
    for pattern, value in patterns.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = re.match(rf"(.*\.)?({pattern})$", name)
        except (re.error, RecursionError, OverflowError):
            continue  # rule A815 says so
        if found:
            return value
    return default


def _bare(method: Lora, model: ModelFacts) -> Iterator[int]:
    for name, tensor in (model.tensors or {}).items():
        if any(is_called(name, wanted) for wanted in method.parameters):
            *experts, first, second = tensor.shape
            yield method.rank * (first + second) * (experts[0] if experts else 1)


def _tokens(method: Lora, model: ModelFacts) -> int:
    embeds = embedding(model)
    return 0 if embeds is None else len(set(method.trainable_tokens)) * embeds[1].shape[1]


def _biases(method: Lora, model: ModelFacts, modules: Mapping[str, TensorFacts]) -> int:
    tensors = model.tensors or {}
    if method.bias == "none":
        return 0
    return sum(
        tensor.count
        for name, tensor in tensors.items()
        if name.endswith("bias") and (method.bias == "all" or name.removesuffix(".bias") in modules)
    )
