"""The method in programs: which parameters are trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..plan import AdapterPlan, Plan
from ..rules.counts import trained_blocks
from ..rules.modules import layers_of, num_blocks
from ..spec import (
    AdaLora,
    Boft,
    CordaInit,
    EvaInit,
    Freeze,
    Ia3,
    LnTuning,
    LoftqInit,
    Loha,
    Lokr,
    Lora,
    LoraGaInit,
    Oft,
    PissaInit,
    Prefix,
    Prompt,
    PTuning,
    Targeted,
    Vera,
)
from .calls import Arg, Call, Places
from .literals import python_literal
from .model_calls import adapter_place
from .newer_calls import newer


def method_call(plan: Plan, places: Places) -> Call:
    """Return the call that makes the parameters trainable which the method trains."""
    method, adapter = plan.spec.method, plan.adapter
    earlier = plan.spec.adapters
    if earlier.paths and earlier.then == "continue":
        place = Arg("", adapter_place(plan, places, len(earlier.paths) - 1))
        folder = _given({"subfolder": earlier.subfolder}, {"subfolder": None})
        return Call("models.continue_adapter", (Arg("", "model"), place, *folder))
    if isinstance(method, Freeze):
        return Call("models.train_blocks", (Arg("", "model"), *_blocks(method, plan)))
    if adapter is None:
        return Call("models.train_all", (Arg("", "model"),))
    args = [*_own(method, adapter), *_targeted(method, plan)]
    name = method.type.replace("-", "_")
    return Call(f"models.add_{name}", (Arg("", "model"), *args))


def _own(method: Any, adapter: AdapterPlan) -> Iterator[Arg]:
    """Yield what only this method is told, before its targets."""
    match method:
        case Lora() | AdaLora() | Loha() | Lokr() | Vera():
            yield Arg("rank", python_literal(method.rank))
            if isinstance(method, AdaLora):
                yield Arg("initial_rank", python_literal(method.initial_rank))
            if adapter.alpha is not None:
                yield Arg("alpha", python_literal(float(adapter.alpha)), _scale(method, adapter))
            yield Arg("dropout", python_literal(float(method.dropout)))
        case Oft():
            size = 32 if method.num_blocks is None else None
            given = {"block_size": method.block_size or size, "num_blocks": method.num_blocks}
            yield from _given(given, {"block_size": None, "num_blocks": None})
            yield from _given({"dropout": float(method.dropout)}, {"dropout": 0.0})
        case Boft():
            yield Arg("block_size", python_literal(method.block_size))
            yield Arg("factors", python_literal(method.factors))
            yield from _given({"dropout": float(method.dropout)}, {"dropout": 0.0})
        case Prefix():
            yield Arg("num_tokens", python_literal(method.num_tokens))
            yield from _given({"projection": method.projection}, {"projection": False})
        case Prompt():
            yield Arg("num_tokens", python_literal(method.num_tokens))
            if method.text is not None:
                yield Arg("start", f"models.text_ids(tokenizer, {python_literal(method.text)})")
        case PTuning():
            names: dict[str, Any] = {"network": "mlp", "hidden_size": None}
            if method.network == "lstm":
                names |= {"num_layers": 2, "dropout": 0.0}
            yield Arg("num_tokens", python_literal(method.num_tokens))
            yield from _given({name: getattr(method, name) for name in names}, names)
        case LnTuning():
            yield Arg("norms", _names(adapter.targets), _modules(adapter.num_modules, "layers"))
            yield from _given({"full_modules": method.full_modules}, {})
        case _:
            yield from newer(method, adapter)


def _targeted(method: Any, plan: Plan) -> Iterator[Arg]:
    """Yield the modules a method goes to, and what it is told about them."""
    adapter = plan.adapter
    if not isinstance(method, Targeted) or adapter is None:
        return
    yield Arg("targets", _names(adapter.targets), _modules(adapter.num_modules))
    if isinstance(method, Ia3):
        yield Arg("feedforward", _names(adapter.feedforward), "of these the input is scaled")
    if isinstance(method, AdaLora):
        names = {"warmup_steps": 0, "final_steps": 0, "interval": 1}
        yield from _given({name: getattr(method, name) for name in names}, names)
    if isinstance(method, Lora):
        yield from _lora(method, plan.batch.micro)
    layers = layers_of(method, plan.facts.model)
    yield from _given({"layers": layers, "full_modules": method.full_modules}, {})
    if isinstance(method, Lora) and method.trainable_tokens:
        tokens = _names(method.trainable_tokens)
        yield Arg("trainable_tokens", f"models.token_ids(tokenizer, {tokens})")


def _lora(method: Lora, micro: int) -> Iterator[Arg]:
    names: dict[str, Any] = {"rank_stabilized": False, "dora": False, "bias": "none"}
    yield from _given({name: getattr(method, name) for name in names}, names)
    # LoftQ comes after, with the weights from before they were quantized.
    if not isinstance(method.init, LoftqInit):
        yield from _given({"init": method.init.type}, {"init": "default"})
    if isinstance(method.init, PissaInit):
        if not method.init.exact:
            yield Arg("iterations", python_literal(method.init.iterations))
        yield from _given({"convert": method.init.convert}, {"convert": False})
    if isinstance(method.init, EvaInit | CordaInit | LoraGaInit):
        number = python_literal(method.init.batches)
        size = python_literal(micro)
        look = f"models.first_batches(train, tokenizer, batches={number}, size={size})"
        yield Arg("look", look, "a pass over these before the training")
    if isinstance(method.init, EvaInit):
        yield from _given({"rho": float(method.init.rho)}, {"rho": 2.0})
    if isinstance(method.init, CordaInit):
        yield from _given({"mode": method.init.mode}, {"mode": "instruction"})
    if isinstance(method.init, LoraGaInit):
        choices = {"direction": method.init.direction, "scale": method.init.scale}
        yield from _given(choices, {"direction": "a-first", "scale": "stable"})
        yield from _given({"gamma": float(method.init.gamma)}, {"gamma": 16.0})
    patterns = {"rank_pattern": method.rank_pattern, "alpha_pattern": method.alpha_pattern}
    yield from _given({**patterns, "parameters": method.parameters}, {})


def _blocks(method: Freeze, plan: Plan) -> Iterator[Arg]:
    count = num_blocks(plan.facts.model)
    if count is not None:
        numbers = list(trained_blocks(method, count))
        yield Arg("blocks", python_literal(numbers), f"of {count}")
    else:
        last = list(range(-method.blocks, 0))
        first = list(range(method.blocks))
        yield Arg("blocks", python_literal(last if method.side == "last" else first))
    if method.modules != "all":
        yield Arg("modules", _names(method.modules))
    yield from _given({"extra_modules": method.extra_modules}, {})


def _given(values: dict[str, Any], defaults: dict[str, Any]) -> Iterator[Arg]:
    """Yield the values that differ from what the call takes for granted; without a default, those that are not empty."""
    for name, value in values.items():
        if (value != defaults[name]) if name in defaults else value:
            text = _names(value) if isinstance(value, tuple) else python_literal(value)
            yield Arg(name, text)


def _scale(method: Any, adapter: AdapterPlan) -> str:
    if isinstance(method, AdaLora) or not adapter.rank or adapter.alpha is None:
        return ""
    stable = isinstance(method, Lora) and method.rank_stabilized
    return f"update scaled by {adapter.alpha / (adapter.rank ** (0.5 if stable else 1)):g}"


def _names(names: tuple[Any, ...] | str) -> str:
    if isinstance(names, str):
        return python_literal(names)
    lines = "".join(f"\n                {python_literal(name)}," for name in names)
    return f"[{lines}\n            ]" if names else "[]"


def _modules(count: int | None, what: str = "modules") -> str:
    return "" if count is None else f"{count} {what}"
