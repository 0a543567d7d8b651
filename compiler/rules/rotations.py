"""Orthogonal methods: how rotations are cut into blocks, and widths that do not divide."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error
from ..facts import Facts
from ..spec import Boft, Oft, Spec
from .method import matching
from .rule import Rule

EMBEDDINGS = ("embed", "wte", "embd")


def check_blocks(spec: Spec) -> Iterator[Diagnostic]:
    """The blocks of OFT are given by size and by number.

    Fails:
    ```toml
    [method]
    type = "oft"
    block_size = 8
    num_blocks = 4
    ```
    Passes:
    ```toml
    [method]
    type = "oft"
    block_size = 8
    ```
    """
    method = spec.method
    if isinstance(method, Oft) and method.block_size is not None and method.num_blocks is not None:
        yield error(
            "A823",
            "the blocks are given twice",
            ("method", "num_blocks"),
            label="by their number",
            labels=(Label(("method", "block_size"), "and by their size"),),
            helps=("keep one of the two",),
        )


def check_division(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The blocks do not divide a layer.

    BOFT refuses such a layer; OFT takes another size without a word that the spec knows of.

    Fails:
    ```toml
    [method]
    type = "oft"
    block_size = 24
    ```
    Passes:
    ```toml
    [method]
    type = "oft"
    block_size = 16
    ```
    """
    method = spec.method
    if isinstance(method, Oft):
        name = "num_blocks" if method.block_size is None else "block_size"
        size = method.num_blocks if method.block_size is None else method.block_size
    elif isinstance(method, Boft):
        name, size = "block_size", method.block_size * 2 ** min(max(method.factors - 1, 0), 64)
    else:
        return
    if size is None or size < 1 or facts.model.model_type == "gpt2":  # its weights lie transposed
        return
    modules = facts.model.linear_modules()
    chosen = modules if method.targets == "all-linear" else _chosen(spec, facts)
    for module in chosen:
        if width := modules[module].shape[1] % size and modules[module].shape[1]:
            butterfly = f" with {method.factors} factors" if isinstance(method, Boft) else ""
            yield error(
                "A824",
                f"`method.{name}`{butterfly} does not divide the {width:,} inputs of `{module}`",
                ("method", name),
                label=f"{width:,} / {size:,} is no whole number",
                helps=("use a power of two that divides every layer",),
            )
            return


def _chosen(spec: Spec, facts: Facts) -> list[str]:
    modules = facts.model.linear_modules()
    targets: tuple[str, ...] = getattr(spec.method, "targets", ())
    return [name for target in targets for name in matching(modules, target)]


RULES = (
    Rule("A823", "size and number of blocks", pure=check_blocks),
    Rule("A824", "blocks and widths", factual=check_division),
)
