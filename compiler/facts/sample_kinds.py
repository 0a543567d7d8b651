"""What an objective learns from, which decides how a row is read."""

from __future__ import annotations

from typing import Literal

from ..spec import (
    AlpacaSource,
    Grpo,
    Kto,
    MessagesSource,
    Objective,
    Ppo,
    PreferenceSource,
    Pretraining,
    PromptSource,
    Sft,
    ShareGptSource,
    TextSource,
)

FileSource = (
    AlpacaSource | MessagesSource | ShareGptSource | TextSource | PreferenceSource | PromptSource
)
TalkSource = AlpacaSource | MessagesSource | ShareGptSource
SampleKind = Literal["answers", "text", "pairs", "labels", "prompts"]
"""Answers to learn, texts, preferences between two answers, good and bad answers, prompts alone."""

_OBJECTIVES: dict[type, SampleKind] = {
    Sft: "answers",
    Pretraining: "text",
    Kto: "labels",
    Ppo: "prompts",
    Grpo: "prompts",
}
_FORMATS: dict[type, SampleKind] = {
    TextSource: "text",
    PreferenceSource: "pairs",
    PromptSource: "prompts",
}


def wanted_by(objective: Objective) -> SampleKind:
    """Return what an objective learns from; those that are not told apart here compare two answers."""
    return _OBJECTIVES.get(type(objective), "pairs")


def kind_of_rows(source: FileSource, wanted: SampleKind | None = None) -> SampleKind:
    """Return how the rows of a source are read for an objective, or for none in particular.

    A conversation can serve several; where it lacks the columns for what is wanted, it is just that.
    """
    if not isinstance(source, TalkSource):
        return _FORMATS[type(source)]
    # One of the two alone is refused as that.
    is_pair = source.chosen is not None or source.rejected is not None
    if is_pair and wanted in ("pairs", None):
        return "pairs"
    if source.label is not None and wanted in ("labels", None):
        return "labels"
    return "prompts" if wanted == "prompts" else "answers"
