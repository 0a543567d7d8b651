"""Answers generated in an evaluation, and how near they are to those in the data."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.batches import MicroSize
from ..data.layouts import eval_batches
from ..data.origins import places
from ..data.samples import IGNORED, Sample
from ..errors import ExitCode, UserError
from ..inference.chat import end_tokens
from ..session import Session
from ..storage import disk_errors, write_text
from ..together import by_main, everyones
from .evaluation import Evaluation
from .text_metrics import TEXT_MEASURES, measure

PREDICTIONS = Path("predictions")
TOLD_S = 30.0
"""Seconds between lines that say how far it is."""


@dataclass(frozen=True, kw_only=True)
class Generate:
    """How answers are generated: the likeliest token each time, or the likeliest of several beams."""

    max_new_tokens: int
    num_beams: int = 1


class Prediction(NamedTuple):
    """The answer to a sample: its number in the set, where it is from, prompt, expected and generated text."""

    number: int
    place: str
    prompt: str
    expected: str
    generated: str


class Generation:
    """Generates the answers to held-out prompts, all processes sharing the work."""

    def __init__(self, settings: Generate, *, session: Session, tokenizer: Any) -> None:
        """Take the settings.

        Raises:
            UserError: (ENVIRONMENT) the library that compares texts is not installed.
        """
        if find_spec("sacrebleu") is None:
            raise UserError(
                "`evaluation.generate` needs sacrebleu, which is not installed",
                help="pip install 'tunec[metrics]'",
                code=ExitCode.ENVIRONMENT,
            )
        self.settings = settings
        self.session = session
        self.tokenizer = tokenizer

    @torch.no_grad()
    def evaluate(
        self, model: Any, evaluations: Sequence[Evaluation], *, size: MicroSize, step: int
    ) -> dict[str, float]:
        """Return the measures of all answers together and of each set with a name; write them to `predictions/`.

        The generators of random numbers are afterwards as they were: a training goes on as without this.
        """
        devices = [torch.cuda.current_device()] if self.session.device == "gpu" else []
        with torch.random.fork_rng(devices):
            sets = {each.name: self._answers(model, each, size) for each in evaluations}
        return by_main(lambda: self._measured(sets, step))

    def _answers(self, model: Any, evaluation: Evaluation, size: MicroSize) -> list[Prediction]:
        rows, session = evaluation.samples.rows, self.session
        asked = [n for n, row in enumerate(rows) if prompt_length(row)]
        if not asked:
            return []
        lengths = [prompt_length(rows[n]) for n in asked]
        ends = self._ends(model, [rows[n] for n in asked])
        order = eval_batches(
            lengths,
            MicroSize(size.samples if size.tokens is None else _fitting(size.tokens, lengths)),
            rank=session.rank,
            num_ranks=session.num_ranks,
        )
        shortest = min(range(len(asked)), key=lambda at: lengths[at])
        mine: list[Prediction] = []
        told = time.monotonic()
        for number, batch in enumerate(order, start=1):
            # Where weights are spread, all processes must generate as often.
            numbers = [asked[at] for at in batch or [shortest]]
            texts = self._generate(model, [rows[n] for n in numbers], ends)
            found = zip(numbers, texts, strict=True) if batch else ()
            mine += [self._prediction(rows, index, text) for index, text in found]
            if time.monotonic() - told > TOLD_S:
                told = time.monotonic()
                session.say(f"generated {100 * number // len(order)} % of the answers")
        return sorted(prediction for part in everyones(mine) for prediction in part)

    def _prediction(self, rows: Sequence[Sample], index: int, text: str) -> Prediction:
        sample, start = rows[index], prompt_length(rows[index])
        (place,) = places(rows, [index], self.session.run_dir)
        prompt = self.tokenizer.decode(sample.input_ids[:start], skip_special_tokens=False)
        return Prediction(index, place, prompt, self._text(answer_of(sample)), text)

    def _generate(self, model: Any, samples: Sequence[Sample], ends: list[int]) -> list[str]:
        from transformers import GenerationConfig

        inputs = left_padded(
            [sample.input_ids[: prompt_length(sample)] for sample in samples],
            self.tokenizer.pad_token_id,
            model.device,
        )
        config = GenerationConfig(
            max_new_tokens=self.settings.max_new_tokens,
            num_beams=self.settings.num_beams,
            do_sample=False,
            repetition_penalty=1.0,
            use_cache=True,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=ends,
        )
        is_spread = any(hasattr(parameter, "ds_id") for parameter in model.parameters())
        found = model.generate(
            **inputs,
            generation_config=config,
            synced_gpus=is_spread and self.session.num_ranks > 1,
        )
        start = inputs["input_ids"].shape[1]
        return [self._text(_until(row[start:].tolist(), ends)) for row in found]

    def _ends(self, model: Any, samples: Sequence[Sample]) -> list[int]:
        """Return the tokens that end an answer: those that model and tokenizer name, and the end marks of the data."""
        special = set(self.tokenizer.all_special_ids)
        marks = {answer_of(sample)[-1] for sample in samples} & special
        return sorted({*end_tokens(model, self.tokenizer, ()), *marks})

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def _measured(self, sets: dict[str, list[Prediction]], step: int) -> dict[str, float]:
        with disk_errors("the predictions", Path()):
            PREDICTIONS.mkdir(exist_ok=True)
            write_text(PREDICTIONS / f"step-{step}.jsonl", "".join(_lines(sets)))
        everything = [found for part in sets.values() for found in part]
        parts = {"": everything, **{name: part for name, part in sets.items() if name}}
        return {
            f"eval_{name}/{chosen}" if chosen else f"eval_{name}": value
            for chosen, part in parts.items()
            if part
            for name, value in measure(
                [found.generated for found in part], [found.expected for found in part]
            ).items()
        }


def prompt_length(sample: Sample) -> int:
    """Return the number of tokens before the first that carries loss; 0 where there is nothing to answer."""
    return next((at for at, label in enumerate(sample.labels) if label != IGNORED), 0)


def answer_of(sample: Sample) -> list[int]:
    """Return the first tokens in a row that carry loss."""
    start = prompt_length(sample)
    labels = sample.labels[start:]
    return labels[: next((at for at, label in enumerate(labels) if label == IGNORED), len(labels))]


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> dict[str, Tensor]:
    """Return `input_ids` and `attention_mask`, int64 `[rows, longest]`: generation goes on at the right end."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, longest - len(row) :] = torch.tensor(row)
        mask[number, longest - len(row) :] = 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _fitting(tokens: int, lengths: Sequence[int]) -> int:
    return max(1, tokens // max(lengths))


def _until(tokens: list[int], ends: Sequence[int]) -> list[int]:
    return tokens[: next((at for at, token in enumerate(tokens) if token in ends), len(tokens))]


def _lines(sets: dict[str, list[Prediction]]) -> Iterator[str]:
    for name, part in sets.items():
        for found in part:
            row = {"set": name} if name else {}
            row |= {
                "place": found.place,
                "prompt": found.prompt,
                "expected": found.expected,
                "generated": found.generated,
            }
            yield json.dumps(row, ensure_ascii=False) + "\n"


__all__ = ["TEXT_MEASURES", "Generate", "Generation"]
