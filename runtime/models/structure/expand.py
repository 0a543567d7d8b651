"""Block expansion of LLaMA-Pro (Wu et al. 2024, arXiv:2401.02415): new blocks that change nothing until they are trained.

After each group of blocks stands a copy of its last one, whose output projections are zero, so that it passes on what
it gets. Only the new blocks are trained then (`method.expanded`, `method.expanded_blocks`).
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ExitCode, UserError
from ...session import program
from ...storage import commit_directory, disk_errors, gib
from ..folder import display, open_staging
from ..load import Base, load_causal_lm, stored_dtype

OUTPUTS = frozenset(("o_proj", "down_proj", "out_proj", "c_proj", "wo", "w2", "dense", "fc2"))
"""Names of the layers that attention and feed-forward network end with, in one family or another."""
MARK = "tunec_expanded_blocks"
"""Entry of the configuration that names the new blocks."""


def expand_blocks(model: Any, num_blocks: int) -> None:
    """Put `num_blocks` new blocks into a model, evenly spread, without a change of what it computes.

    Raises:
        UserError: the blocks do not divide into so many groups, or a new block is not the identity in this family.
    """
    text = model.config.get_text_config()
    parent, name = _place_of_blocks(model, text.num_hidden_layers)
    old = getattr(parent, name)
    if num_blocks < 1 or len(old) % num_blocks:
        raise UserError(
            f"{len(old)} blocks do not divide into {num_blocks} groups",
            help="add a number of blocks that divides them",
            code=ExitCode.ENVIRONMENT,
        )
    before = _logits(model)
    size = len(old) // num_blocks
    new, origin = nn.ModuleList(), []
    for number, block in enumerate(old):
        new.append(block)
        origin.append(number)
        if (number + 1) % size == 0:
            new.append(_identity(block))
            origin.append(number)
    for number, block in enumerate(new):
        parts: list[Any] = [part for part in block.modules() if hasattr(part, "layer_idx")]
        for part in parts:
            part.layer_idx = number
    setattr(parent, name, new)
    for key, value in list(vars(text).items()):
        # Such as `layer_types`: an entry for each block.
        if isinstance(value, list) and len(value) == len(old):
            setattr(text, key, [value[number] for number in origin])
    text.num_hidden_layers = len(new)
    setattr(model.config, MARK, [n for n in range(len(new)) if (n + 1) % (size + 1) == 0])
    _check_same(model, before, "the new blocks")


def expand(
    source: Path | str, target: Path, *, num_blocks: int, revision: str | None = None
) -> None:
    """Write the model at `source` with `num_blocks` new blocks to the folder `target`, with its tokenizer.

    What is written is read back, and must give the same logits as the model it comes from.

    Raises:
        UserError: as `expand_blocks`, or the source is missing or quantized, `target` exists, or the disk is full.
    """
    from transformers import AutoTokenizer

    if target.exists():
        raise UserError(
            f"{display(target)} exists already",
            help="remove it, or name another folder",
            code=ExitCode.CONFLICT,
        )
    base = Base(source, revision=revision)
    dtype = stored_dtype(base)
    model = load_causal_lm(base, dtype=dtype).eval()
    if getattr(model.config, "quantization_config", None) is not None:
        raise UserError(
            "the weights are quantized, so that no block can be added",
            help="expand the original model",
            code=ExitCode.ENVIRONMENT,
        )
    before = _logits(model)
    expand_blocks(model, num_blocks)
    staging = open_staging(target)
    try:
        with disk_errors("the model", target.parent):
            model.save_pretrained(str(staging))
            AutoTokenizer.from_pretrained(str(source), revision=revision).save_pretrained(
                str(staging)
            )
        numbers = getattr(model.config, MARK)
        del model
        _check_same(load_causal_lm(staging, dtype=dtype).eval(), before, "the written model")
        commit_directory(staging, target, {"source": Path(source).name})
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"wrote {target} ({gib(size)}); new blocks: {', '.join(map(str, numbers))}", flush=True)


def expand_program(
    source: Path | str, *, target: Path, num_blocks: int, revision: str | None = None
) -> None:
    """Run `expand` as a program: errors are one line and an exit code."""
    with program():
        expand(source, target, num_blocks=num_blocks, revision=revision)


def _place_of_blocks(model: Any, count: int) -> tuple[Any, str]:
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, name
    raise UserError(
        "the blocks of this model are not known, so that none can be added",
        code=ExitCode.ENVIRONMENT,
    )


def _identity(block: nn.Module) -> nn.Module:
    """Return a copy of a block that adds nothing to what passes through."""
    copied = copy.deepcopy(block)
    with torch.no_grad():
        for name, parameter in copied.named_parameters():
            if OUTPUTS & {*name.split(".")}:
                parameter.zero_()
    return copied


@torch.no_grad()
def _logits(model: Any) -> Tensor:
    """Return what the model makes of some tokens."""
    rows = model.get_input_embeddings().num_embeddings
    ids = torch.arange(1, 33)[None] * 7919 % rows
    logits: Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return logits


def _check_same(model: Any, before: Tensor, what: str) -> None:
    if not torch.equal(_logits(model), before):
        raise UserError(
            f"{what} would change what the model computes: blocks of this family cannot be added",
            help="nothing was kept",
            code=ExitCode.ENVIRONMENT,
        )
