"""The method against the model it adapts: modules that get adapters or are trained in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts, ModelFacts
from ..facts.weights import TensorFacts
from ..spec import Ia3, LnTuning, Lora, Spec, Targeted, Targets
from .adapted import has_experts_apart
from .common import similar
from .modules import ends_module, has_module, has_parameter, num_blocks, outer_modules
from .rule import Rule

EMBEDDINGS = ("embed", "wte", "wpe", "head", "embd", "output")


def check_targets(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A target names no module of the model.

    PEFT refuses only when no target at all matches; a single misspelt one is dropped without a word there.

    Fails:
    ```toml
    [method]
    type = "lora"
    targets = ["q_proj", "quary"]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    targets = ["q_proj", "v_proj"]
    ```
    """
    method = spec.method
    if isinstance(method, Targeted):
        yield from unmatched_targets("A801", method.targets, ("method", "targets"), facts.model)


def unmatched_targets(
    code: str, targets: Targets, place: SpecPath, model: ModelFacts
) -> Iterator[Diagnostic]:
    """Yield an error for each target that is no module, and for a list without any."""
    if targets == "all-linear" or not model.known:
        return
    modules = model.linear_modules()
    names = sorted({name.rsplit(".", 1)[-1] for name in modules})
    if not targets:
        yield error(code, f"`{'.'.join(map(str, place))}` is empty", place, helps=_names(names, ""))
    for index, target in enumerate(targets):
        if not matching(modules, target) and not _is_other_target(model, target):
            yield error(
                code,
                f"no module of the model is called `{target}`",
                (*place, index),
                helps=_names(names, target),
            )


def check_rank(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The rank is as large as a layer.

    An adapter of rank r replaces a matrix of m x n numbers by r x (m + n). From r = m n / (m + n) on it is larger
    than the matrix it adapts.

    Fails:
    ```toml
    [method]
    type = "lora"
    rank = 512
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    rank = 4
    ```
    """
    method = spec.method
    if not isinstance(method, Lora):
        return
    matched = targeted(method, facts.model.linear_modules())
    if matched:
        smallest = min(min(tensor.shape) for tensor in matched.values())
        if method.rank >= smallest:
            yield warning(
                "A802",
                f"rank {method.rank} is not low: the smallest adapted layer has {smallest} rows or columns",
                ("method", "rank"),
                helps=(f"use a rank well below {smallest}",),
            )


def check_layers(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A block that the model does not have is to get an adapter.

    Fails:
    ```toml
    [method]
    type = "lora"
    layers = [0, 2]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    layers = [0, 1]
    ```
    """
    blocks = num_blocks(facts.model)
    if not isinstance(spec.method, Targeted) or blocks is None:
        return
    for index, layer in enumerate(getattr(spec.method, "layers", ())):
        if layer >= blocks:
            yield error(
                "A812",
                f"there is no block {layer}: the model has {blocks}, counted from 0",
                ("method", "layers", index),
                labels=(Label(("model", "path"), f"{blocks} blocks"),),
            )


def check_full_modules(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A module to train in full does not exist.

    Fails:
    ```toml
    [method]
    type = "lora"
    full_modules = ["embed_token"]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    full_modules = ["embed_tokens"]
    ```
    """
    if not isinstance(spec.method, Targeted | LnTuning) or not facts.model.known:
        return
    for index, name in enumerate(spec.method.full_modules):
        if not ends_module(facts.model, name):
            yield error(
                "A813",
                f"no module of the model is called `{name}`",
                ("method", "full_modules", index),
                helps=_names(sorted(outer_modules(facts.model)), name, "outside of the blocks are"),
            )


def check_shadowed(spec: Spec) -> Iterator[Diagnostic]:
    """A module gets an adapter and is trained in full.

    What is trained in full needs no adapter, and PEFT leaves it out.

    Fails:
    ```toml
    [method]
    type = "lora"
    targets = ["q_proj", "v_proj"]
    full_modules = ["q_proj"]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    targets = ["v_proj"]
    full_modules = ["q_proj"]
    ```
    """
    method = spec.method
    if not isinstance(method, Targeted) or method.targets == "all-linear":
        return
    for index, target in enumerate(method.targets):
        if target in method.full_modules:
            yield warning(
                "A814",
                f"`{target}` is trained in full, so it gets no adapter",
                ("method", "targets", index),
                labels=(
                    Label(("method", "full_modules", method.full_modules.index(target)), "in full"),
                ),
                helps=("keep one of the two",),
            )


def check_parameters(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A bare parameter that is to get an adapter does not exist, or belongs to a linear layer.

    `parameters` is for weights that are no layer of their own, such as those of experts stacked into one tensor;
    PEFT refuses the weight of a linear layer there.

    Fails:
    ```toml
    [method]
    type = "lora"
    parameters = ["q_proj.weight"]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    targets = ["q_proj"]
    ```
    """
    method, model = spec.method, facts.model
    if not isinstance(method, Lora) or not method.parameters or not model.known:
        return
    linear = [f".{name}.weight" for name in model.linear_modules()]
    for index, name in enumerate(method.parameters):
        path: SpecPath = ("method", "parameters", index)
        if any(weight.endswith(f".{name}") for weight in linear):
            module = name.removesuffix(".weight").rsplit(".", 1)[-1]
            helps = (f'name the layer instead: `targets = ["{module}"]`',)
            yield error("A817", f"`{name}` is the weight of a linear layer", path, helps=helps)
        elif not has_parameter(model, name) and not (
            "experts." in name and has_experts_apart(model)
        ):
            yield error("A817", f"no parameter of the model is called `{name}`", path)


def check_feedforward(spec: Spec) -> Iterator[Diagnostic]:
    """A feed-forward layer of (IA)³ that is no target.

    Fails:
    ```toml
    [method]
    type = "ia3"
    targets = ["k_proj", "v_proj"]
    feedforward = ["down_proj"]
    ```
    Passes:
    ```toml
    [method]
    type = "ia3"
    targets = ["k_proj", "v_proj", "down_proj"]
    feedforward = ["down_proj"]
    ```
    """
    method = spec.method
    if not isinstance(method, Ia3) or method.targets == "all-linear":
        return
    for index, name in enumerate(method.feedforward):
        if name not in method.targets:
            yield error(
                "A830",
                f"the feed-forward layer `{name}` is no target",
                ("method", "feedforward", index),
                labels=(Label(("method", "targets"), "not among these"),),
                helps=(f'add `"{name}"` to `targets`',),
            )


def matching(modules: Mapping[str, TensorFacts], target: str) -> list[str]:
    """Return the modules PEFT takes for `target`: those called so, or ending in `.target`."""
    return [name for name in modules if name == target or name.endswith("." + target)]


def targeted(method: Lora, modules: Mapping[str, TensorFacts]) -> dict[str, TensorFacts]:
    """Return the modules that get an adapter."""
    if method.targets == "all-linear":
        return dict(modules)
    chosen = {name for target in method.targets for name in matching(modules, target)}
    return {name: tensor for name, tensor in modules.items() if name in chosen}


def _is_other_target(model: ModelFacts, target: str) -> bool:
    """Embeddings and heads get adapters too; of packed weights only the names are known."""
    named = any(word in target for word in EMBEDDINGS) or not model.linear_modules()
    return named and has_module(model, target)


def _names(names: list[str], meant: str, what: str = "its linear modules are") -> tuple[str, ...]:
    near = similar(meant, names)
    listed = f"{what} " + ", ".join(f"`{name}`" for name in names[:30])
    if not names:
        return ()
    return (listed,) if near is None else (f"a similar name is `{near}`", listed)


RULES = (
    Rule("A801", "target matches nothing", factual=check_targets),
    Rule("A802", "rank not low", factual=check_rank),
    Rule("A812", "no such block", factual=check_layers),
    Rule("A813", "module matches nothing", factual=check_full_modules),
    Rule("A814", "adapter on a full module", pure=check_shadowed),
    Rule("A817", "parameter matches nothing", factual=check_parameters),
    Rule("A830", "layer is no target", pure=check_feedforward),
)
