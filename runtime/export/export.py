"""Merge an adapter into its base, or cast fully trained weights; then prove that what was written is what was trained."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import ExitCode, UserError
from ..models.folder import display, open_staging
from ..models.load import DTYPES, Base, Dtype, load_causal_lm, load_tokenizer, stored_dtype
from ..models.parts import score_head
from ..models.quantization import is_quantized
from ..models.saved import changed, save_tokenizer
from ..models.variants import VIRTUAL, WHOLE, Load, Method, load_trained, whole
from ..session import program
from ..storage import disk_errors, gib, replace_directory

PROBE = "The quick brown fox jumps over the lazy dog. 1 + 1 = 2."
TOLERANCE = 1e-3
"""Largest accepted difference of logits in fp32 arithmetic of another order, relative to the largest logit."""


def export(
    *,
    base: Base,
    method: Method,
    trained: Path,
    output: Path,
    dtype: Literal["same", "fp32", "bf16", "fp16"],
    max_shard_gib: float,
    load: Load = load_causal_lm,
    packages: Collection[str] = (),
) -> None:
    """Write the merged model to `output`: safetensors, configuration, tokenizer, chat template.

    The merge is done in fp32 and rounded once. Logits are compared at each step: trained with base (they must
    differ), merged with trained, and the written model, read back, with the merged one. `load` says what kind of
    model it is: `load_causal_lm` or `load_reward_model`. `packages` are the optional libraries the model needs.

    Raises:
        UserError: (as one line) nothing was trained, `output` exists, the disk is full, or a comparison fails.
    """
    options = _options()
    with program(packages=packages):
        target = output if options.output is None else Path(options.output).absolute()
        _check_target(target, (Path(base.path), trained), overwrite=options.overwrite)
        _check_mergeable(method, trained)
        chosen: Dtype = stored_dtype(base) if dtype == "same" else dtype
        print("loading the trained model", flush=True)
        loading = partial(load_trained, trained, base=base, method=method, dtype="fp32", load=load)
        model = loading().eval()
        tokenizer = load_tokenizer(trained)
        probe = tokenizer(PROBE, return_tensors="pt", add_special_tokens=False)["input_ids"]
        as_trained = expected = _logits(model, probe)
        if is_quantized(model):
            del model  # both at once could be too much
            model = loading(dequantized=True)
            expected = _logits(model.eval(), probe)
            _tell_dequantized(expected, as_trained, chosen)
        untrained = None
        if method not in WHOLE:
            with model.disable_adapter():
                untrained = _logits(model, probe)
            _check_trained(expected, untrained)
            model = model.merge_and_unload()
            _check_same(
                "the merged model differs from the trained one", _logits(model, probe), expected
            )
        _round(model, chosen)
        rounded = _logits(model, probe)
        _judge_rounding(rounded, as_trained, untrained, chosen)
        staging = open_staging(target)
        try:
            with disk_errors("the merged model", target.parent, needed=_size(model, chosen)):
                model.to(DTYPES[chosen]).save_pretrained(
                    str(staging), max_shard_size=int(max_shard_gib * 2**30)
                )
                save_tokenizer(staging, tokenizer, model, trained=trained)
            del model
            written = _logits(load(whole(base, staging), dtype="fp32").eval(), probe)
            _check_same("the written model differs from the merged one", written, rounded)
            _check_tokenizer(changed(staging, tokenizer))
            replace_directory(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        size = sum(file.stat().st_size for file in target.iterdir())
        print(f"wrote {display(target)} ({gib(size)}, {chosen})", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tunec export SPEC",
        description="Write the trained model as one folder of safetensors.",
    )
    parser.add_argument(
        "--output", metavar="DIR", help="folder to write (default: export.output_dir)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    return parser.parse_args()


def _check_target(target: Path, inputs: tuple[Path, ...], *, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise UserError(
            f"{display(target)} exists already",
            help="replace it with --overwrite, or name another folder with --output",
            code=ExitCode.CONFLICT,
        )
    if target.exists() and not (target / "config.json").is_file():
        raise UserError(
            f"{display(target)} is no model folder, so it is not replaced", code=ExitCode.CONFLICT
        )
    if os.path.realpath(target) in map(os.path.realpath, inputs):
        raise UserError(
            f"{display(target)}: the merged model cannot take the place of what it is made from",
            help="name another folder with --output",
            code=ExitCode.CONFLICT,
        )


def _check_mergeable(method: Method, trained: Path) -> None:
    """Virtual tokens are inputs: there is nothing that weights could take up."""
    if method in VIRTUAL:
        raise UserError(
            f"`{method}` cannot be merged: virtual tokens are inputs of the model, not changes of its weights",
            help=f"serve the base model with the adapter {display(trained)}",
            code=ExitCode.CONFLICT,
        )


def _check_trained(trained: torch.Tensor, untrained: torch.Tensor) -> None:
    if torch.equal(trained, untrained):
        raise UserError(
            "the trained model answers exactly as the base model: the adapter changes nothing",
            help="was it trained at all? see metrics.jsonl",
            code=ExitCode.CHECKPOINT,
        )


@torch.no_grad()
def _logits(model: Any, probe: torch.Tensor) -> torch.Tensor:
    """Return the logits at every token, of a reward model the scores."""
    head, scores = score_head(model), []
    hook = head and head.register_forward_hook(lambda _, __, score: scores.append(score))
    logits: torch.Tensor = model(input_ids=probe, use_cache=False).logits
    if hook is not None:
        hook.remove()
    return (scores[0] if scores else logits).float()


def _tell_dequantized(expected: torch.Tensor, as_trained: torch.Tensor, dtype: Dtype) -> None:
    """Say what is merged: the adapter learned beside the quantized weights, and makes up for their errors."""
    print(
        f"the adapter is merged into the quantized weights it was trained on, as plain weights in {dtype}; "
        f"without quantized arithmetic, logits differ by {_distance(expected, as_trained):.1e}",
        flush=True,
    )


def _size(model: Any, dtype: Dtype) -> int:
    width = torch.finfo(DTYPES[dtype]).bits // 8
    return width * sum(int(parameter.numel()) for parameter in model.parameters())


def _round(model: Any, dtype: Dtype) -> None:
    """Give the parameters the values they will have in the file, still in fp32."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(DTYPES[dtype]))


def _check_same(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    difference = _distance(found, expected)
    if not difference <= TOLERANCE * float(expected.abs().max()):
        raise UserError(
            f"{what} by {difference:.2g} in its logits",
            help="nothing was kept; this is a fault of tunec or of a library",
            code=ExitCode.INTERNAL,
        )


def _check_tokenizer(differences: list[str]) -> None:
    if differences:
        raise UserError(
            f"the written tokenizer is not the one that was trained with: another {', another '.join(differences)}",
            help="nothing was kept; this is a fault of tunec or of a library",
            code=ExitCode.INTERNAL,
        )


def _judge_rounding(
    rounded: torch.Tensor, trained: torch.Tensor, untrained: torch.Tensor | None, dtype: Dtype
) -> None:
    """Say what the number format costs; only the user can tell whether that is too much."""
    if not bool(rounded.isfinite().all()):
        raise UserError(
            f"the trained weights do not fit into {dtype}: logits are no longer finite",
            help='set `export.dtype` to "bf16" or "fp32"',
            code=ExitCode.CHECKPOINT,
        )
    lost = _distance(rounded, trained)
    print(f"largest difference of logits to the trained model: {lost:.1e}", flush=True)
    if untrained is not None and lost >= _distance(untrained, trained):
        print(
            f"warning: rounding to {dtype} changes the logits of a test sentence more than training did; "
            'set `export.dtype = "fp32"` to keep what was learned',
            flush=True,
        )


def _distance(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max())
