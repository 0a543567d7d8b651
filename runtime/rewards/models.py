"""Rewards by reward models: one of its own in memory, or an adapter on the policy's model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ExitCode, UserError
from ..models.adapters import continue_adapter
from ..models.adapters.switching import adapter_on, evaluating
from ..models.dtypes import Dtype
from ..models.folder import display
from ..models.load import Base
from ..models.reward import load_reward_model
from ..models.score import ScoreReader, last_positions
from ..models.sharded import is_sharded, sharded_beside
from .base import Answered

ROWS = 8
"""Texts in one forward pass."""


class ModelReward:
    """Scores answers by a reward model beside the policy, which stays as it is.

    One with the policy's tokens reads the very tokens of prompt and answer. Any other reads them as text, without the
    marks of the policy's chat template, and with its own mark at the end.
    """

    name = "model"

    def __init__(self, base: Base | Path | str, *, dtype: Dtype, weight: float = 1.0) -> None:
        """Remember what `attach` loads, adapters merged and quantized as `base` says."""
        self.base = base if isinstance(base, Base) else Base(base)
        self.dtype: Dtype = dtype
        self.weight = weight
        self._engine: Any = None

    def attach(self, model: Any, tokenizer: Any, device: Any) -> str:
        """Load the model.

        Raises:
            UserError: it is missing or damaged, or has no head that scores.
        """
        self._own = _tokenizer(self.base)
        self._is_same = self._own.get_vocab() == tokenizer.get_vocab()
        self._policys, self._device = tokenizer, device
        self._model = self._loaded().requires_grad_(False).eval()
        self._reader = ScoreReader(self._model)
        told = f"reward model {display(self.base.path)}"
        return told if self._is_same else f"{told}, which reads texts by its own tokens"

    def _loaded(self) -> Any:
        adapters, is_quantized = self.base.adapters, self.base.quantization is not None
        if adapters is None and not is_quantized:
            return load_reward_model(self.base, dtype=self.dtype, seed=None)
        with not_sharded():
            if adapters is None or not is_quantized:
                return load_reward_model(self.base, dtype=self.dtype, seed=None)
            # Merged into few bits, the last one would be rounded away.
            *first, last = adapters.paths
            merged = replace(adapters, paths=first) if first else None
            base = replace(self.base, adapters=merged)
            model = load_reward_model(base, dtype=self.dtype)
            return continue_adapter(model, last, subfolder=adapters.subfolder)

    def score(self, model: Any, answered: Sequence[Answered]) -> list[float]:
        """Return the score of each answer."""
        texts = [self._tokens(one) for one in answered]
        engine = self._placed(model)
        return by_length(texts, lambda batch: self._reader(engine, batch), self._device)

    def _tokens(self, one: Answered) -> list[int]:
        if self._is_same:
            return [*one.prompt_ids, *one.answer_ids]
        prompt = self._policys.decode(list(one.prompt_ids), skip_special_tokens=True)
        ids = [int(number) for number in self._own(prompt + one.answer)["input_ids"]]
        end = self._own.eos_token_id
        return ids if end is None or ids[-1:] == [end] else [*ids, int(end)]

    def _placed(self, policy: Any) -> Any:
        """Return the model where it can compute: spread like the policy under ZeRO-3, else on the device.

        Quantized weights are no numbers that could be spread.
        """
        if self._engine is None:
            spread = is_sharded(policy) and self.base.quantization is None
            self._engine = (
                sharded_beside(self._model, policy) if spread else self._model.to(self._device)
            )
        return self._engine


class AdapterReward:
    """Scores answers by a reward adapter and its head on the policy's own model: no second model is in memory."""

    name = "adapter"
    weight = 1.0

    def __init__(self, path: Path | str) -> None:
        """Remember the folder or hub id of the adapter."""
        self.path = path

    def attach(self, model: Any, tokenizer: Any, device: Any) -> str:
        """Put the adapter beside the policy's, frozen.

        Raises:
            UserError: it is missing or damaged, has no head that scores, or does not go beside the policy's.
        """
        config, tensors, self._head = _adapter(self.path)
        trained = {id(p) for p in model.parameters() if p.requires_grad}
        try:
            model.add_adapter(ADAPTER, config)
            result = _filled(model, tensors)
        except (ValueError, RuntimeError, KeyError, NotImplementedError, TypeError) as fault:
            raise _damaged(self.path, fault) from None
        if result:
            raise _damaged(self.path, f"the policy has no module for `{min(result)}`")
        # PEFT has switched parameters on and off.
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        self._adapted, self._device = model, device
        return f"reward adapter {display(self.path)}"

    def score(self, model: Any, answered: Sequence[Answered]) -> list[float]:
        """Return the score of each answer."""
        texts = [[*one.prompt_ids, *one.answer_ids] for one in answered]
        with adapter_on(self._adapted, ADAPTER), evaluating(self._adapted):
            return by_length(texts, lambda batch: self._scores(model, batch), self._device)

    def _scores(self, model: Any, batch: dict[str, Tensor]) -> Tensor:
        last = last_positions(batch["attention_mask"])
        kept: list[Tensor] = []

        def take(_head: Any, inputs: tuple[Any, ...]) -> Any:
            hidden_bth = inputs[0]
            kept.append(hidden_bth[torch.arange(len(last), device=last.device), last])
            return (hidden_bth[:, :1], *inputs[1:])  # nobody looks at the logits

        hook = self._adapted.get_output_embeddings().register_forward_pre_hook(take)
        try:
            model(**batch, use_cache=False)
        finally:
            hook.remove()
        return kept[0].float() @ self._head.to(kept[0].device)


@contextmanager
def not_sharded() -> Iterator[None]:
    """Inside, models are loaded whole also under ZeRO-3: adapters cannot be merged into a share of a weight."""
    from transformers.integrations import deepspeed

    kept = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = kept


ADAPTER = "reward"
"""What PEFT knows the reward adapter by."""


def by_length(texts: Sequence[Sequence[int]], score: Any, device: Any) -> list[float]:
    """Return the scores of texts given by their tokens, some in a batch, those of similar length together."""
    order = sorted(range(len(texts)), key=lambda at: (-len(texts[at]), at))
    found = [0.0] * len(texts)
    with torch.no_grad():
        for start in range(0, len(order), ROWS):
            chosen = order[start : start + ROWS]
            scores = score(_padded([texts[at] for at in chosen], device)).tolist()
            for at, value in zip(chosen, scores, strict=True):
                found[at] = float(value)
    return found


def _padded(texts: Sequence[Sequence[int]], device: Any) -> dict[str, Tensor]:
    longest = max(map(len, texts))
    ids = torch.zeros((len(texts), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _tokenizer(base: Base) -> Any:
    from transformers import AutoTokenizer

    from ..models.load import fetched, hub_arguments

    found = fetched(base)
    try:
        return AutoTokenizer.from_pretrained(str(found.path), **hub_arguments(**found.hub))
    except Exception as fault:
        raise UserError(
            f"{display(base.path)}: cannot load the tokenizer of the reward model: {_first(fault)}",
            code=ExitCode.ENVIRONMENT,
        ) from None


def _adapter(path: Path | str) -> tuple[Any, dict[str, Tensor], Tensor]:
    """Return configuration and tensors of a reward adapter without its head, and the head, fp32 `[hidden]`."""
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    try:
        config = PeftConfig.from_pretrained(str(path))
        tensors = load_peft_weights(str(path), device="cpu")
    except Exception as fault:
        raise _damaged(path, fault) from None
    heads = [name for name in tensors if name.endswith(".score.weight")]
    if not heads:
        raise UserError(
            f"{display(path)}: this adapter has no head that scores",
            help='train one: `[objective] type = "reward"`',
            code=ExitCode.ENVIRONMENT,
        )
    head = tensors.pop(heads[0])[0].float()
    others = [name for name in config.modules_to_save or () if name not in ("score", "classifier")]
    config.modules_to_save, config.task_type, config.inference_mode = others or None, None, True
    return config, tensors, head


def _filled(model: Any, tensors: dict[str, Tensor]) -> list[str]:
    """Give the adapter its numbers; return the names of those that are left."""
    from peft import set_peft_model_state_dict

    found = set_peft_model_state_dict(model, tensors, adapter_name=ADAPTER)
    missing = [name for name in found.missing_keys if f".{ADAPTER}." in name]
    return [*found.unexpected_keys, *missing]


def _damaged(path: Path | str, fault: Exception | str) -> UserError:
    return UserError(
        f"{display(path)}: cannot load the reward adapter: {_first(fault)}",
        help="it goes beside an adapter of the same kind, on the model it was trained on",
        code=ExitCode.ENVIRONMENT,
    )


def _first(fault: Exception | str) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]
