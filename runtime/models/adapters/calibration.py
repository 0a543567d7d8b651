"""Starts that look at training data first: EVA, CorDA and LoRA-GA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...data.layouts import Batches, Collator
from ...data.samples import Samples
from ...errors import UserError
from .conversion import keep_start

Batch = Mapping[str, Tensor]


def first_batches(train: Samples, tokenizer: Any, *, batches: int, size: int) -> list[Batch]:
    """Return the first micro batches of the training data, in the order they are stored, the same on every process."""
    made = Batches(train, Collator(int(tokenizer.pad_token_id)))
    rows = range(min(len(train), batches * size))
    return [made[rows[start : start + size]] for start in range(0, len(rows), size)]


def start_from_activations(adapted: Any, batches: Sequence[Batch]) -> Any:
    """Let the adapters start from singular vectors of their inputs, at the labelled tokens (EVA, arXiv:2410.07170).

    Ranks go where the variance is. B stays zero, so that training starts from the model as it was.

    Raises:
        UserError: the batches are too small for the rank.
    """
    from peft import initialize_lora_eva_weights

    device = _to_device(adapted)
    names = ("input_ids", "labels", "attention_mask", "position_ids")
    inputs = [{n: batch[n].to(device) for n in names if n in batch} for batch in batches]
    try:
        initialize_lora_eva_weights(
            adapted,
            inputs,
            forward_fn=lambda model, given: model(
                **{n: v for n, v in given.items() if n != "labels"}, use_cache=False
            ),
            gather_distributed_inputs=False,
            show_progress_bar=False,
        )
    except ValueError as fault:
        cause = (str(fault).splitlines() or [""])[0]
        raise UserError(
            f"cannot start from the data: {cause}",
            help="raise `method.init.batches` or `batch.micro_size`, or lower `method.rank`",
        ) from None
    # Whoever loads the adapter has its numbers and needs no data.
    adapted.peft_config["default"].init_lora_weights = True
    return adapted


def prepare_covariances(model: Any, config: Any, batches: Sequence[Batch]) -> None:
    """Decompose the weights by the covariance of their inputs (CorDA, arXiv:2406.05223), sample by sample."""
    from peft.tuners.lora.corda import preprocess_corda

    device = _to_device(model)

    @torch.no_grad()
    def run() -> None:
        for batch in batches:
            masks = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
            for ids, mask in zip(batch["input_ids"], masks, strict=True):
                model(input_ids=ids[mask.bool()][None].to(device), use_cache=False)

    was_training = model.training
    model.eval()
    _name_targets(model, config)
    preprocess_corda(model, config, run_model=run)
    model.train(was_training)


def keep_covariances(adapted: Any) -> Any:
    """Return the model, which saves an ordinary adapter: nobody could redo the decomposition without the data."""
    adapted.peft_config["default"].corda_config = None
    return keep_start(adapted)


def prepare_gradients(model: Any, config: Any, batches: Sequence[Batch]) -> None:
    """Average the gradients of the weights over batches of training data (LoRA-GA, arXiv:2407.05000)."""
    from peft.tuners.lora.loraga import preprocess_loraga

    device = _to_device(model)

    def run() -> None:
        for batch in batches:
            names = ("input_ids", "labels", "attention_mask", "position_ids")
            given = {name: batch[name].to(device) for name in names if name in batch}
            model(**given, use_cache=False).loss.backward()

    _name_targets(model, config)
    preprocess_loraga(model, config, run)


def keep_gradients(adapted: Any) -> Any:
    """Return the model, which saves an ordinary adapter of the weights as they were: these gave up their start."""
    adapted.peft_config["default"].lora_ga_config = None
    return keep_start(adapted)


def _name_targets(model: Any, config: Any) -> None:
    """Put the names of all linear layers in place of the word, which PEFT does later than these starts need."""
    from peft.tuners.tuners_utils import _maybe_include_all_linear_layers

    _maybe_include_all_linear_layers(config, model)


def _to_device(model: Any) -> torch.device:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    return device
