"""Methods that train whole blocks: how many there are, which modules they have, how expansion divides them."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..facts import Facts
from ..spec import Freeze, Lisa, Lora, Spec
from .common import choices
from .modules import block_modules, ends_module, is_in_block, num_blocks, outer_modules
from .rule import Rule


def check_count(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """More blocks are to be trained than the model has.

    Fails:
    ```toml
    [method]
    type = "freeze"
    blocks = 3
    ```
    Passes:
    ```toml
    [method]
    type = "freeze"
    blocks = 1
    ```
    """
    total = num_blocks(facts.model)
    if isinstance(spec.method, Freeze | Lisa) and total is not None and spec.method.blocks > total:
        yield error(
            "A818",
            f"`method.blocks` is {spec.method.blocks}, the model has {total} blocks",
            ("method", "blocks"),
            labels=(Label(("model", "path"), f"{total} blocks"),),
            helps=(f"set it to {total} or less",),
        )


def check_modules(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A module to train does not exist in the blocks, or outside of them.

    Fails:
    ```toml
    [method]
    type = "freeze"
    modules = ["mpl"]
    ```
    Passes:
    ```toml
    [method]
    type = "freeze"
    modules = ["mlp"]
    ```
    """
    method, model = spec.method, facts.model
    if not isinstance(method, Freeze) or not model.known:
        return
    inner = () if method.modules == "all" else method.modules
    for index, name in enumerate(inner):
        if not is_in_block(model, name):
            yield error(
                "A819",
                f"the blocks have no module `{name}`",
                ("method", "modules", index),
                helps=(choices(name, block_modules(model), "they have"),),
            )
    outside = outer_modules(model) if method.extra_modules else set()
    for index, name in enumerate(method.extra_modules):
        if name not in outside and (is_in_block(model, name) or not ends_module(model, name)):
            yield error(
                "A819",
                f"there is no module `{name}` outside of the blocks",
                ("method", "extra_modules", index),
                helps=(choices(name, outside, "there are"),),
            )


def check_expanded(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The expanded blocks are not evenly spread, not as many as were added, or of a model that is not here.

    Block expansion (`tunec expand`) puts a new block after each group of old ones, so that the number of blocks is a
    multiple of the number of new ones. Which blocks are new follows from both.

    Fails:
    ```toml
    [method]
    type = "lora"
    expanded_blocks = 3
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    expanded_blocks = 2
    ```
    """
    found = _expanded(spec)
    total = num_blocks(facts.model)
    if found is None or found[1] < 1:
        return
    path, count = found
    added = facts.model.config.get("tunec_expanded_blocks")
    if total is None:
        if facts.model.state == "hub":
            yield error(
                "A820",
                "which blocks expansion added is known only of a model that is here",
                path,
                labels=(Label(("model", "path"), "not on this machine"),),
                helps=("make a folder of it: `tunec expand SOURCE FOLDER --blocks N`",),
            )
        return
    if isinstance(added, list) and len(added) != count:
        yield error(
            "A820",
            f"{len(added)} blocks were added to this model, not {count}",
            path,
            labels=(Label(("model", "path"), "expanded by tunec"),),
            helps=(f"set it to {len(added)}",),
        )
    if total % count == 0:
        return
    divisors = [str(n) for n in range(1, min(total, 1000) + 1) if total % n == 0]
    yield error(
        "A820",
        f"{total} blocks do not divide into {count} groups, each with one expanded block",
        path,
        labels=(Label(("model", "path"), f"{total} blocks"),),
        notes=(f"{total} divides by {', '.join(divisors)}",),
        helps=("name the number of blocks that block expansion added",),
    )


def check_layers_twice(spec: Spec) -> Iterator[Diagnostic]:
    """The blocks that get adapters are given twice.

    Fails:
    ```toml
    [method]
    type = "lora"
    layers = [0]
    expanded_blocks = 1
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    layers = [0]
    ```
    """
    method = spec.method
    if isinstance(method, Lora) and method.layers and method.expanded_blocks is not None:
        yield error(
            "A821",
            "the blocks that get adapters are given twice",
            ("method", "expanded_blocks"),
            label="those that expansion added",
            labels=(Label(("method", "layers"), "and these"),),
            helps=("keep one of the two",),
        )


def _expanded(spec: Spec) -> tuple[SpecPath, int] | None:
    method = spec.method
    if isinstance(method, Freeze) and method.expanded:
        return ("method", "blocks"), method.blocks
    if isinstance(method, Lora) and method.expanded_blocks is not None:
        return ("method", "expanded_blocks"), method.expanded_blocks
    return None


RULES = (
    Rule("A818", "more blocks than there are", factual=check_count),
    Rule("A819", "no such module", factual=check_modules),
    Rule("A820", "blocks do not divide", factual=check_expanded),
    Rule("A821", "blocks given twice", pure=check_layers_twice),
)
