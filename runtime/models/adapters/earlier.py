"""Adapters of an earlier training: merged into the model before this one, or trained on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ...errors import ExitCode, UserError
from ..folder import display
from ..parts import SCORE, is_reward_model

Combine = Literal["merge", "linear", "svd", "ties", "dare"]
PEFT_NAMES = {"linear": "linear", "svd": "svd", "ties": "ties", "dare": "dare_linear"}


@dataclass(frozen=True)
class Merged:
    """Adapters that become part of the base: one after the other, or combined into one by their weights.

    TIES (arXiv:2306.01708) and DARE (arXiv:2311.03099) keep the share `density` of the numbers, DARE at random but
    always the same.
    """

    paths: Sequence[Path | str]
    _: KW_ONLY
    subfolder: str | None = None
    combine: Combine = "merge"
    weights: Sequence[float] = ()
    density: float = 0.5


def merge_earlier(model: Any, merged: Merged) -> Any:
    """Return the model with the adapters in its weights.

    Raises:
        UserError: an adapter is missing or damaged, belongs to another model, or does not go with the others.
    """
    if merged.combine == "merge":
        for path in merged.paths:
            model = _taken_up(_loaded(model, path, merged.subfolder), path)
        return model
    names = [f"earlier_{number}" for number in range(len(merged.paths))]
    adapted = model
    for name, path in zip(names, merged.paths, strict=True):
        adapted = _loaded(adapted, path, merged.subfolder, name)
    kept = {} if merged.combine in ("linear", "svd") else {"density": merged.density}
    try:
        # The same numbers are dropped in every program of a run, on every process.
        with torch.random.fork_rng():
            torch.manual_seed(0)
            adapted.add_weighted_adapter(
                names,
                list(merged.weights) or [1.0] * len(names),
                "combined",
                combination_type=PEFT_NAMES[merged.combine],
                **kept,
            )
    except ValueError as fault:
        cause = (str(fault).splitlines() or [""])[0]
        raise UserError(
            f"cannot combine the adapters: {cause}", help="see `adapters.combine`"
        ) from None
    adapted.set_adapter("combined")
    return _taken_up(adapted, merged.paths[-1], ["combined"])


def continue_adapter(
    model: Any,
    path: Path | str,
    *,
    subfolder: str | None = None,
) -> Any:
    """Return the model with an adapter of an earlier training, which is trained on.

    Raises:
        UserError: the adapter is missing or damaged, or belongs to another model.
    """
    adapted = _loaded(model, path, subfolder, is_trainable=True)
    if is_reward_model(adapted) and SCORE not in (adapted.modules_to_save or ()):
        raise UserError(
            f"{display(path)}: the adapter has no head that scores, which would stay as it is",
            help='merge it into the model: `[adapters] then = "new"`',
            code=ExitCode.SPEC,
        )
    return adapted


def _loaded(
    model: Any,
    path: Path | str,
    subfolder: str | None,
    name: str = "default",
    *,
    is_trainable: bool = False,
) -> Any:
    from peft import PeftModel

    place: dict[str, Any] = {} if subfolder is None else {"subfolder": subfolder}
    if isinstance(path, Path) and subfolder is not None:
        path, place = path / subfolder, {}
    if isinstance(path, Path) and not path.is_dir():
        raise UserError(
            f"there is no adapter at {display(path)}",
            help="see `adapters.paths`",
            code=ExitCode.ENVIRONMENT,
        )
    try:
        # PEFT only warns of an adapter that lacks tensors, and leaves zeros in their place.
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            if isinstance(model, PeftModel):
                model.load_adapter(str(path), name, **place)
                return model
            if is_reward_model(model):
                place["config"] = _for_scores(str(path), place)
            return PeftModel.from_pretrained(
                model, str(path), name, is_trainable=is_trainable, **place
            )
    except Exception as fault:
        cause = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise UserError(
            f"{display(path)}: cannot load the adapter: {cause}",
            help="it may belong to another model; see `adapters.paths`",
            code=ExitCode.ENVIRONMENT,
        ) from None


def _for_scores(path: str, place: dict[str, Any]) -> Any:
    """Return the configuration of an adapter for a model that scores: PEFT would ask it to write texts."""
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(path, **place)
    if config.task_type != "SEQ_CLS":
        config.task_type = None
    return config


def _taken_up(adapted: Any, path: Path | str, names: list[str] | None = None) -> Any:
    """Return the plain model with the adapters in its weights, marked by nothing."""
    try:
        model = adapted.merge_and_unload(adapter_names=names)
    except (AttributeError, NotImplementedError, ValueError) as fault:
        cause = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise UserError(
            f"{display(path)}: cannot merge the adapter: {cause}",
            help='train it on: `[adapters] then = "continue"`',
        ) from None
    if hasattr(model, "peft_config"):
        del model.peft_config
    return model
