"""Optimizers by their name in transformers: names that exist, and those that have a kind of their own."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, error
from ..spec import (
    OtherOptimizer,
    Spec,
)
from .common import similar
from .rule import Rule

_NAMES = """
adamw_torch adamw_torch_fused adamw_torch_xla adamw_torch_npu_fused adafactor adamw_anyprecision adamw_torch_4bit
adamw_torch_8bit ademamix sgd adagrad adamw_bnb_8bit adamw_8bit ademamix_8bit lion_8bit lion_32bit paged_adamw_32bit
paged_adamw_8bit paged_ademamix_32bit paged_ademamix_8bit paged_lion_32bit paged_lion_8bit rmsprop rmsprop_bnb
rmsprop_bnb_8bit rmsprop_bnb_32bit galore_adamw galore_adamw_8bit galore_adafactor galore_adamw_layerwise
galore_adamw_8bit_layerwise galore_adafactor_layerwise lomo adalomo grokadamw schedule_free_radam schedule_free_adamw
schedule_free_sgd apollo_adamw apollo_adamw_layerwise stable_adamw
"""
TRANSFORMERS = frozenset(_NAMES.split())
"""The optimizers of transformers 5.23 by name."""

OWN_KINDS = {
    "adamw_torch": 'type = "adamw"',
    "adamw_torch_fused": 'type = "adamw"',
    "adamw_8bit": 'type = "adamw"` and `state = "8bit"',
    "adamw_bnb_8bit": 'type = "adamw"` and `state = "8bit"',
    "paged_adamw_8bit": 'type = "adamw"` and `state = "paged-8bit"',
    "paged_adamw_32bit": 'type = "adamw"` and `state = "paged-32bit"',
    "lion_32bit": 'type = "lion"',
    "lion_8bit": 'type = "lion"` and `state = "8bit"',
    "paged_lion_8bit": 'type = "lion"` and `state = "paged-8bit"',
    "paged_lion_32bit": 'type = "lion"` and `state = "paged-32bit"',
    "adafactor": 'type = "adafactor"',
    "sgd": 'type = "sgd"',
    "galore_adamw": 'type = "galore"',
    "galore_adamw_8bit": 'type = "galore"` and `base = "adamw-8bit"',
    "galore_adafactor": 'type = "galore"` and `base = "adafactor"',
    "galore_adamw_layerwise": 'type = "galore"` and `layerwise = true',
    "galore_adamw_8bit_layerwise": 'type = "galore"` and `layerwise = true',
    "galore_adafactor_layerwise": 'type = "galore"` and `layerwise = true',
    "apollo_adamw": 'type = "apollo"',
    "apollo_adamw_layerwise": 'type = "apollo"` and `layerwise = true',
}
"""Those that this spec has as kinds."""


def check_name(spec: Spec) -> Iterator[Diagnostic]:
    """Transformers has no optimizer of this name.

    Fails:
    ```toml
    [optimizer]
    type = "transformers"
    name = "ademamx"
    ```
    Passes:
    ```toml
    [optimizer]
    type = "transformers"
    name = "ademamix"
    ```
    """
    optimizer = spec.optimizer
    if isinstance(optimizer, OtherOptimizer) and optimizer.name not in TRANSFORMERS:
        near = similar(optimizer.name.lower(), TRANSFORMERS)
        yield error(
            "U808",
            f"transformers has no optimizer `{optimizer.name}`",
            ("optimizer", "name"),
            helps=(f"a similar name is `{near}`",)
            if near is not None
            else ("names are such as `schedule_free_adamw`, `rmsprop` or `ademamix`",),
        )


def check_own_kind(spec: Spec) -> Iterator[Diagnostic]:
    """An optimizer by its name in transformers that has a kind of its own here.

    Its kind has its settings by name and is checked against the rest of the spec.

    Fails:
    ```toml
    [optimizer]
    type = "transformers"
    name = "adamw_torch"
    ```
    Passes:
    ```toml
    [optimizer]
    type = "adamw"
    ```
    """
    optimizer = spec.optimizer
    own = OWN_KINDS.get(optimizer.name) if isinstance(optimizer, OtherOptimizer) else None
    if isinstance(optimizer, OtherOptimizer) and own is not None:
        yield error(
            "U811",
            f"`{optimizer.name}` has a kind of its own",
            ("optimizer", "name"),
            helps=(f"write `{own}`",),
        )


UNUSABLE = {
    "adamw_torch_xla": "is for TPUs",
    "adamw_torch_npu_fused": "is for Ascend NPUs",
    "adamw_anyprecision": "needs torchdistx, which has no release for this torch",
    "lomo": "updates weights in a backward pass of its own, around DeepSpeed's",
    "adalomo": "updates weights in a backward pass of its own, around DeepSpeed's",
    "grokadamw": "keeps its state where no checkpoint finds it, so that a run cannot go on",
}
"""Names of transformers that cannot work here, and why."""


def check_usable(spec: Spec) -> Iterator[Diagnostic]:
    """Transformers knows the optimizer, but it cannot train here.

    Fails:
    ```toml
    [optimizer]
    type = "transformers"
    name = "lomo"
    ```
    Passes:
    ```toml
    [optimizer]
    type = "transformers"
    name = "ademamix"
    ```
    """
    optimizer = spec.optimizer
    if isinstance(optimizer, OtherOptimizer) and optimizer.name in UNUSABLE:
        yield error(
            "U812",
            f"`{optimizer.name}` {UNUSABLE[optimizer.name]}",
            ("optimizer", "name"),
            helps=("names are such as `schedule_free_adamw` or `ademamix`",),
        )


RULES = (
    Rule("U812", "optimizer that cannot train here", pure=check_usable),
    Rule("U808", "no such optimizer", pure=check_name),
    Rule("U811", "optimizer with a kind of its own", pure=check_own_kind),
)
