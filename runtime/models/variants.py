"""The models of a run: as given, trained, merged."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..errors import ExitCode, UserError
from .folder import display
from .load import Base, Dtype, load_causal_lm, load_tokenizer
from .quantization import dequantize

Load = Callable[..., Any]
"""Loads a base as a model of some kind."""
Method = Literal[
    "lora",
    "full",
    "freeze",
    "oft",
    "boft",
    "ia3",
    "adalora",
    "vera",
    "loha",
    "lokr",
    "fourierft",
    "hra",
    "randlora",
    "miss",
    "shira",
    "c3a",
    "ln-tuning",
    "road",
    "vblora",
    "prefix",
    "prompt",
    "p-tuning",
    "lisa",
]
WHOLE: tuple[Method, ...] = ("full", "freeze", "lisa")
"""Methods that save the whole model; all others save an adapter."""
VIRTUAL: tuple[Method, ...] = ("prefix", "prompt", "p-tuning")
"""Methods whose adapters are inputs, which no weights can take up."""


def load_trained(
    trained: Path,
    *,
    base: Base,
    method: Method,
    dtype: Dtype,
    dequantized: bool = False,
    load: Load = load_causal_lm,
) -> Any:
    """Return the trained model: the base with its adapter on top, or the fully trained weights.

    `load` says what kind of model it is: `load_causal_lm` or `load_reward_model`. A quantized base stays quantized; `dequantized` gives it plain layers in fp32 with the same weights.

    Raises:
        UserError: nothing was trained yet, or the files are damaged.
    """
    if not trained.is_dir():
        raise UserError(
            f"there are no trained weights at {display(trained)}",
            help="train first: `tunec train SPEC`, or name a checkpoint",
            code=ExitCode.CONFLICT,
        )
    if method in WHOLE:
        return load(whole(base, trained), dtype=dtype)
    from peft import PeftModel

    is_needed = base.new_rows is not None or load is not load_causal_lm
    tokenizer = load_tokenizer(trained) if is_needed else None
    model = load(base, dtype=dtype, tokenizer=tokenizer)
    if dequantized:
        model = dequantize(model)
    try:
        # PEFT only warns of an adapter that lacks tensors, and leaves zeros in their place.
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(trained))
    except Exception as fault:
        cause = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise UserError(
            f"{display(trained)}: cannot load the adapter: {cause}", code=ExitCode.CHECKPOINT
        ) from None


def whole(base: Base, folder: Path) -> Base:
    """Return how a model in a folder of its own, made from `base`, is loaded: nothing of it is on a hub.

    Its configuration says how its positions are stretched.
    """
    depths = base.mixture_of_depths
    return replace(
        base,
        path=folder,
        revision=None,
        cache_dir=None,
        token_env=None,
        rope=None,
        mixture_of_depths="load" if depths == "convert" else depths,
        init="pretrained",
        allow_pickle=False,
        new_rows=None,
        hub_name="huggingface",
        quantization=None,
        adapters=None,
    )
