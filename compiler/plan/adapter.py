"""The adapters of a plan: their targets by name, and the values that a spec leaves open."""

from __future__ import annotations

from ..diagnostics import SpecPath
from ..facts import Facts
from ..rules.adapted import adapted, has_experts_apart, norms
from ..rules.common import Adapter
from ..rules.counts import feedforward
from ..spec import AdaLora, Ia3, LnTuning, Loha, Lokr, Lora, Oft, RandLora, Spec, Targeted
from .model import AdapterPlan, Derived


def plan_adapter(spec: Spec, facts: Facts, derived: list[Derived]) -> AdapterPlan | None:
    """Return the adapters in numbers, and note what was derived; None where the method has none."""
    method = spec.method
    if not isinstance(method, Adapter):
        return None
    if isinstance(method, LnTuning):
        return _norms(method, facts, derived)
    if not isinstance(method, Targeted):
        return AdapterPlan((), None)
    rank = getattr(method, "rank", None)
    alpha = _alpha(spec, derived)
    if isinstance(method, Oft) and method.block_size is None and method.num_blocks is None:
        _add(derived, ("method", "block_size"), 32, "neither block_size nor num_blocks is given")
    modules = adapted(method, facts.model)
    targets: tuple[str, ...] | str = method.targets
    if modules and method.targets == "all-linear" and not has_experts_apart(facts.model):
        targets = tuple(sorted({name.rsplit(".", 1)[-1] for name in modules}))
        reason = f"all-linear: {len(modules)} modules of the model"
        _add(derived, ("method", "targets"), targets, reason)
    scaled: tuple[str, ...] = ()
    if isinstance(method, Ia3) and not isinstance(targets, str):
        scaled = feedforward(method, targets)
        if not method.feedforward:
            _add(derived, ("method", "feedforward"), scaled, "targets that end a network")
    is_known = facts.model.known and targets != "all-linear"
    num_modules = len(modules) if is_known else None
    return AdapterPlan(targets, num_modules, rank, alpha, scaled)


def _norms(method: LnTuning, facts: Facts, derived: list[Derived]) -> AdapterPlan:
    found = norms(method, facts.model)
    if not found:
        return AdapterPlan("all" if method.norms == "all" else method.norms, None)
    names = tuple(sorted({name.rsplit(".", 1)[-1] for name in found}))
    if method.norms == "all":
        _add(derived, ("method", "norms"), names, f"all: {len(found)} layers of the model")
    return AdapterPlan(names if method.norms == "all" else method.norms, len(found))


def _alpha(spec: Spec, derived: list[Derived]) -> float | None:
    method = spec.method
    if not isinstance(method, Lora | AdaLora | Loha | Lokr | RandLora):
        return None
    if method.alpha is not None:
        return method.alpha
    times = {Lora: 2, AdaLora: 2, RandLora: 20}.get(type(method), 1)
    alpha, words = float(times * method.rank), f"{times} x rank" if times > 1 else "rank"
    _add(derived, ("method", "alpha"), alpha, f"{words} {method.rank}")
    return alpha


def _add(derived: list[Derived], path: SpecPath, value: object, reason: str) -> None:
    derived.append(Derived(path, value, reason))
