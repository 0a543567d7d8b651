"""Experience as micro batches, and in checkpoints."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.batches import collate
from ..data.samples import IGNORED, Sample
from ..objectives.online import Experience


def micro_batch(
    experience: Experience, chosen: Sequence[int], *, pad_token_id: int, pad_multiple: int
) -> dict[str, Tensor]:
    """Return the tensors of some answers behind their prompts, each `[answers, longest]`.

    Answers carry labels; what is known of their tokens is fp32, 0 elsewhere. For a process without an answer there is
    one that counts for nothing.
    """
    lengths = experience.lengths
    rows = list(chosen) or [min(range(len(experience)), key=lengths.__getitem__)]
    samples = [
        Sample(
            experience.prompts[row] + experience.answers[row],
            [IGNORED] * len(experience.prompts[row]) + experience.answers[row],
        )
        for row in rows
    ]
    batch = collate(samples, pad_token_id=pad_token_id, pad_multiple=pad_multiple)
    for name, parts in experience.tokens.items():
        batch[name] = torch.zeros(batch["input_ids"].shape, dtype=torch.float32)
        for at, row in enumerate(rows):
            start = len(experience.prompts[row])
            batch[name][at, start : start + len(parts[row])] = parts[row]
    if not chosen:
        batch["labels"] = torch.full_like(batch["labels"], IGNORED)
        batch["num_tokens"] = torch.tensor(0)
    return batch


def packed(experience: Experience) -> dict[str, Any]:
    """Return experience as tensors, for a checkpoint."""
    return {
        "rows": torch.tensor(experience.rows),
        "prompts": _flat(experience.prompts),
        "answers": _flat(experience.answers),
        "rewards": experience.rewards,
        "tokens": {name: torch.cat(parts) for name, parts in experience.tokens.items()},
    }


def unpacked(state: dict[str, Any]) -> Experience:
    """Return the experience that `packed` was given."""
    answers = _lists(state["answers"])
    sizes = [len(answer) for answer in answers]
    return Experience(
        rows=state["rows"].tolist(),
        prompts=_lists(state["prompts"]),
        answers=answers,
        rewards=state["rewards"],
        tokens={name: parts_of(values, sizes) for name, values in state["tokens"].items()},
    )


def _flat(lists: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    joined = [token for one in lists for token in one]
    return torch.tensor(joined, dtype=torch.int32), torch.tensor([len(one) for one in lists])


def _lists(flat: tuple[Tensor, Tensor]) -> list[list[int]]:
    tokens, sizes = flat
    return [part.tolist() for part in parts_of(tokens, sizes.tolist())]


def parts_of(values: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return values that stand one after the other, cut into parts of these sizes."""
    ends = list(itertools.accumulate(sizes))
    return [values[end - size : end] for end, size in zip(ends, sizes, strict=True)]
