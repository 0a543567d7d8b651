"""Several adapters of an earlier training: whether they can be merged or combined, and settings without effect."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import Spec
from .common import stage_label, zero_stage
from .ktransformers import leaves_folder
from .look import changed
from .rule import Rule

PATHS: SpecPath = ("adapters", "paths")


def num_merged(spec: Spec) -> int:
    """Return how many of the adapters become part of the base: all, or all but the last, which is trained on."""
    adapters = spec.adapters
    return len(adapters.paths) - (1 if adapters.paths and adapters.then == "continue" else 0)


def check_continued(spec: Spec) -> Iterator[Diagnostic]:
    """Adapters are combined into one, and training is to go on with the last of them.

    A combination is put into the weights; none of its parts is left to be trained on.

    Fails:
    ```toml
    [adapters]
    paths = ["adapter", "other-adapter"]
    combine = "linear"
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter", "other-adapter"]
    combine = "linear"
    then = "new"
    ```
    """
    adapters = spec.adapters
    if len(adapters.paths) > 1 and adapters.combine != "merge" and adapters.then == "continue":
        yield error(
            "A838",
            "combined adapters become part of the model, none is left to continue",
            ("adapters", "combine"),
            labels=(Label((*PATHS, len(adapters.paths) - 1), "continued here"),),
            helps=('write `then = "new"`, or `combine = "merge"`',),
        )


def check_several(spec: Spec) -> Iterator[Diagnostic]:
    """Several adapters cannot be merged here.

    Merging needs whole weights and the model's own code: stage 3 shards the weights, Unsloth replaces the code.

    Fails:
    ```toml
    [adapters]
    paths = ["adapter", "other-adapter"]
    [deepspeed]
    zero_stage = 3
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter"]
    [deepspeed]
    zero_stage = 3
    ```
    """
    adapters = spec.adapters
    if len(adapters.paths) < 2 and (adapters.then == "continue" or not adapters.paths):
        return
    against: list[tuple[bool, Label, str]] = [
        (zero_stage(spec) == 3, stage_label(spec), "ZeRO stage 3 shards"),
        (spec.kernels.unsloth, Label(("kernels", "unsloth"), "unsloth here"), "unsloth packs"),
    ]
    for label, what in ((label, what) for is_so, label, what in against if is_so):
        yield error(
            "A808",
            f"adapters cannot be merged into weights that {what}",
            PATHS if len(adapters.paths) > 1 else ("adapters", "then"),
            label="merged here",
            labels=(label,),
            helps=("merge them first with `tunec export`, and start from the result",),
        )


def check_combination(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Adapters cannot be combined this way.

    Combinations are defined for LoRA; a weighted sum of the factors needs equal ranks.

    Fails:
    ```toml
    [adapters]
    paths = ["adapter", "wide-adapter"]
    combine = "linear"
    then = "new"
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter", "wide-adapter"]
    combine = "svd"
    then = "new"
    ```
    """
    adapters = spec.adapters
    found = [facts.adapters.get((*PATHS, index)) for index in range(len(adapters.paths))]
    if adapters.combine == "merge" or len(found) < 2:
        return
    for index, adapter in enumerate(found):
        if adapter is not None and adapter.kind not in (None, "lora"):
            yield error(
                "A809",
                f"only LoRA adapters can be combined, `{adapters.paths[index]}` is `{adapter.kind}`",
                (*PATHS, index),
                labels=(Label(("adapters", "combine"), "combined here"),),
                helps=('write `combine = "merge"`',),
            )
    ranks = [adapter.rank for adapter in found if adapter is not None and adapter.rank is not None]
    if adapters.combine != "svd" and len(set(ranks)) > 1:
        yield error(
            "A809",
            f"`{adapters.combine}` adds factors of equal rank, these have {' and '.join(map(str, ranks))}",
            ("adapters", "combine"),
            helps=('write `combine = "svd"`, which takes any ranks',),
        )


def check_weights(spec: Spec) -> Iterator[Diagnostic]:
    """The weights of a combination do not fit the adapters.

    Fails:
    ```toml
    [adapters]
    paths = ["adapter", "other-adapter"]
    combine = "linear"
    weights = [0.5]
    then = "new"
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter", "other-adapter"]
    combine = "linear"
    weights = [0.5, 0.5]
    then = "new"
    ```
    """
    adapters = spec.adapters
    if adapters.paths and adapters.weights and adapters.combine == "merge":
        yield error(
            "A810",
            "adapters that are merged one after the other have no weights",
            ("adapters", "weights"),
            helps=('write `combine = "linear"`, or remove `weights`',),
        )
    elif adapters.paths and adapters.weights and len(adapters.weights) != len(adapters.paths):
        yield error(
            "A810",
            f"{len(adapters.weights)} weights for {len(adapters.paths)} adapters",
            ("adapters", "weights"),
            labels=(Label(PATHS, f"{len(adapters.paths)} adapters"),),
            helps=("name one weight for each adapter",),
        )


def check_unused(spec: Spec) -> Iterator[Diagnostic]:
    """Settings about adapters, but there are none, or only one to combine.

    Fails:
    ```toml
    [adapters]
    then = "new"
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter"]
    then = "new"
    ```
    """
    adapters = spec.adapters
    names = [name for name in changed(adapters) if name != "paths"]
    if adapters.paths:
        names = [name for name in names if name == "combine" and len(adapters.paths) < 2]
    for name in names:
        few = "there is one adapter only" if adapters.paths else "there are no adapters"
        yield warning(
            "A811",
            f"`adapters.{name}` has no effect: {few}",
            ("adapters", name),
            helps=("name adapters in `paths`, or remove it",),
        )


def check_subfolder(spec: Spec) -> Iterator[Diagnostic]:
    """The subfolder of the adapters leads out of their folders.

    Fails:
    ```toml
    [adapters]
    paths = ["adapter"]
    subfolder = "../other-adapter"
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter"]
    ```
    """
    subfolder = spec.adapters.subfolder
    if subfolder is not None and leaves_folder(subfolder):
        yield error(
            "A831",
            f"`{subfolder}` is not inside the folder of an adapter",
            ("adapters", "subfolder"),
            helps=("name the folder itself in `paths`",),
        )


RULES = (
    Rule("A808", "merging several adapters", pure=check_several),
    Rule("A809", "adapters not combinable", factual=check_combination),
    Rule("A810", "weights of a combination", pure=check_weights),
    Rule("A811", "no adapters", pure=check_unused),
    Rule("A838", "combined and continued", pure=check_continued),
    Rule("A831", "subfolder leaves the adapter", pure=check_subfolder),
)
