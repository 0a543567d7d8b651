"""Adapters of an earlier training: whether they are there, fit the model and the method, and can be combined."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import AdapterFacts, Facts
from ..spec import Lora, Spec, Targeted
from .adapted import adapted
from .common import METHOD_TYPE, Adapter, text_at
from .look import changed
from .rule import Rule

PATHS: SpecPath = ("adapters", "paths")


def check_there(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """An adapter is not where the spec says, or its folder is not complete.

    Fails:
    ```toml
    [adapters]
    paths = ["no/such/adapter"]
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter"]
    ```
    """
    for path, adapter in facts.adapters.items():
        named = text_at(spec, path)
        texts = {
            "missing": f"there is no folder `{named}`, and it is no hub id",
            "file": f"`{named}` is a file, expected the folder of an adapter",
            "no-config": f"`{named}` is no adapter: it has no adapter_config.json",
            "bad-config": f"the adapter_config.json of `{named}` is not JSON, or empty",
            "no-weights": f"the adapter `{named}` has no adapter_model.safetensors",
            "impossible": f"`{named}` cannot be a path here",
        }
        if adapter.state in texts:
            yield error(
                "A803",
                texts[adapter.state],
                path,
                helps=("name the folder that an earlier training saved",),
            )


def check_base(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """An adapter was trained on another model.

    Its numbers are corrections of one model's weights and mean nothing for another's. Only names are compared, so
    a model that was moved or renamed gives this warning too.

    Fails:
    ```toml
    [adapters]
    paths = ["foreign-adapter"]
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter"]
    ```
    """
    for path, adapter in facts.adapters.items():
        names = {_last(adapter.base or ""), _last(spec.model.path)}
        if path[0] == "adapters" and len(names) > 1 and names.isdisjoint(("", ".", "..")):
            yield warning(
                "A804",
                f"`{text_at(spec, path)}` was trained on `{adapter.base}`",
                path,
                labels=(Label(("model", "path"), "another model"),),
                notes=("`base_model_name_or_path` of its adapter_config.json",),
                helps=("make sure that both are the same model",),
            )


def check_kind(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The adapter that training goes on with is of another kind than the method.

    Fails:
    ```toml
    [adapters]
    paths = ["adapter"]
    [method]
    type = "ia3"
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter"]
    [method]
    type = "lora"
    ```
    """
    path, adapter = _continued(spec, facts)
    if adapter is None or adapter.kind is None or not isinstance(spec.method, Adapter):
        return
    if adapter.kind != spec.method.type:
        yield error(
            "A805",
            f"`{text_at(spec, path)}` is an adapter of kind `{adapter.kind}`, the method is `{spec.method.type}`",
            path,
            label="continued here",
            labels=(Label(METHOD_TYPE, "another kind"),),
            helps=(f'write `[method] type = "{adapter.kind}"`, or merge it first: `then = "new"`',),
        )


def check_rank(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The adapter that training goes on with has another rank than the method.

    A continued adapter keeps its rank, so the rank of the spec would not be the one that is trained.

    Fails:
    ```toml
    [adapters]
    paths = ["wide-adapter"]
    [method]
    type = "lora"
    rank = 4
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["wide-adapter"]
    [method]
    type = "lora"
    rank = 16
    ```
    """
    path, adapter = _continued(spec, facts)
    if adapter is None or adapter.kind != "lora" or not isinstance(spec.method, Lora):
        return
    if adapter.rank is not None and adapter.rank != spec.method.rank:
        yield error(
            "A806",
            f"`{text_at(spec, path)}` has rank {adapter.rank}, `method.rank` is {spec.method.rank}",
            ("method", "rank"),
            labels=(Label(path, f"rank {adapter.rank}, continued here"),),
            helps=(f'write `rank = {adapter.rank}`, or start a new adapter: `then = "new"`',),
        )


def check_same(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The adapter that training goes on with was made with other settings than the method has.

    A continued adapter stays what it is, so that what the spec says of it would not be so.

    Fails:
    ```toml
    [adapters]
    paths = ["query-adapter"]
    [method]
    type = "lora"
    rank = 4
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["query-adapter"]
    [method]
    type = "lora"
    rank = 4
    targets = ["q_proj"]
    ```
    """
    path, adapter = _continued(spec, facts)
    method = spec.method
    if adapter is None or adapter.kind != method.type or not isinstance(method, Targeted):
        return
    if adapter.targets and facts.model.known:
        theirs = adapted(method, facts.model, adapter.targets)
        if theirs.keys() != adapted(method, facts.model).keys():
            names = ", ".join(f'"{name}"' for name in adapter.targets)
            yield _other("targets", "other modules", path, f"targets = [{names}]", spec)
    if not isinstance(method, Lora):
        return
    alpha = method.alpha if method.alpha is not None else 2.0 * method.rank
    settings = {
        "alpha": ("lora_alpha", alpha),
        "rank_stabilized": ("use_rslora", method.rank_stabilized),
        "dora": ("use_dora", method.dora),
    }
    for name, (key, value) in settings.items():
        found = adapter.config.get(key)
        if isinstance(found, int | float) and found != value:
            yield _other(
                name, f"`{key} = {json.dumps(found)}`", path, f"{name} = {json.dumps(found)}", spec
            )


def _other(name: str, what: str, path: SpecPath, line: str, spec: Spec) -> Diagnostic:
    return error(
        "A839",
        f"`{text_at(spec, path)}` has {what}, `method.{name}` says otherwise",
        path,
        label="continued here",
        labels=(Label(("method", name), "set here"),) if name in changed(spec.method) else (),
        helps=(f'write `{line}`, or start a new adapter: `then = "new"`',),
    )


def check_method(spec: Spec) -> Iterator[Diagnostic]:
    """Training is to go on with an adapter, but the method trains none.

    Fails:
    ```toml
    [adapters]
    paths = ["adapter"]
    [method]
    type = "full"
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter"]
    then = "new"
    [method]
    type = "full"
    ```
    """
    adapters = spec.adapters
    if not adapters.paths or adapters.then == "new" or isinstance(spec.method, Adapter):
        return
    yield error(
        "A807",
        f"`{spec.method.type}` training cannot continue an adapter",
        METHOD_TYPE,
        labels=(Label((*PATHS, len(adapters.paths) - 1), "continued here"),),
        helps=('merge it into the model first: `[adapters] then = "new"`',),
    )


def check_score_head(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A reward adapter without the head that turns a text into a score.

    Fails:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "adapter", path = "headless-adapter" }
    [[data.sources]]
    format = "prompt"
    path = "data/prompts.jsonl"
    ```
    Passes:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "adapter", path = "reward" }
    [[data.sources]]
    format = "prompt"
    path = "data/prompts.jsonl"
    ```
    """
    path: SpecPath = ("objective", "reward", "path")
    adapter = facts.adapters.get(path)
    if adapter is not None and adapter.state == "folder" and not adapter.has_score_head:
        yield error(
            "A834",
            f"the reward adapter `{text_at(spec, path)}` has no head that scores",
            path,
            notes=("`modules_to_save` of its adapter_config.json does not name `score`",),
            helps=('train one: `[objective] type = "reward"`',),
        )


def _continued(spec: Spec, facts: Facts) -> tuple[SpecPath, AdapterFacts | None]:
    """Return the adapter that training goes on with."""
    path = (*PATHS, len(spec.adapters.paths) - 1)
    if not spec.adapters.paths or spec.adapters.then != "continue":
        return path, None
    return path, facts.adapters.get(path)


def _last(path: str) -> str:
    """Return the name of a model by its path: the last part, or the one in the hub client's folder."""
    parts = path.replace("\\", "/").rstrip("/").lower().split("/")
    cached = [part for part in parts if part.startswith("models--")]
    return cached[-1].rsplit("--", 1)[-1] if cached else parts[-1]


RULES = (
    Rule("A803", "adapter missing", factual=check_there),
    Rule("A804", "adapter of another model", factual=check_base),
    Rule("A805", "adapter of another kind", factual=check_kind),
    Rule("A806", "adapter of another rank", factual=check_rank),
    Rule("A807", "nothing continues the adapter", pure=check_method),
    Rule("A839", "adapter with other settings", factual=check_same),
    Rule("A834", "no head that scores", factual=check_score_head),
)
