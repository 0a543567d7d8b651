"""Formats of data: what an objective learns from."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import (
    AlpacaSource,
    CatalogSource,
    Grpo,
    Kto,
    MessagesSource,
    Ppo,
    PreferenceSource,
    Pretraining,
    PromptSource,
    Sft,
    ShareGptSource,
    Source,
    Spec,
    TextSource,
)
from .look import declared, sources_of
from .rule import Rule

Conversation = (AlpacaSource, MessagesSource, ShareGptSource)
NEEDS: dict[type, tuple[str, str]] = {
    Sft: ("conversations", 'use `format = "messages"`, `"alpaca"` or `"sharegpt"`'),
    Pretraining: (
        "plain text",
        'use `format = "text"`, and name the column with `text`; whole conversations are learned by `type = "sft"` '
        'with `loss_on = "all"`',
    ),
    Kto: ("answers labelled good or bad", "name the column with `label`, in a conversation format"),
    Ppo: ("prompts", 'use `format = "prompt"`, and name the column with `prompt`'),
    Grpo: ("prompts", 'use `format = "prompt"`, and name the column with `prompt`'),
}
PAIRS = (
    "preference pairs",
    'use `format = "preference"`, or name the columns with `chosen` and `rejected`',
)


def check_kind(spec: Spec) -> Iterator[Diagnostic]:
    """The data are of another kind than the objective learns from.

    SFT learns from conversations, pretraining from plain text, reward models and DPO, ORPO, SimPO and CPO from
    preference pairs, KTO from answers labelled good or bad, PPO and GRPO from prompts. Of conversations these two take
    what precedes the last answer. Trainers that find this out while they read the data do so after the model was
    loaded.

    Fails:
    ```toml
    [objective]
    type = "dpo"
    ```
    Passes:
    ```toml
    [objective]
    type = "dpo"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    """
    for path, source in sources_of(spec):
        if not isinstance(source, CatalogSource) and not _suits(spec, source):
            yield _wrong_kind(spec, (*path, "format"), source)


def check_declared_kind(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Say the same of entries of a catalog."""
    for path, source in declared(spec, facts):
        if not _suits(spec, source):
            yield _wrong_kind(spec, path, source)


def _suits(spec: Spec, source: Source) -> bool:
    objective = spec.objective
    if isinstance(objective, Sft):
        return isinstance(source, Conversation)
    if isinstance(objective, Pretraining):
        return isinstance(source, TextSource)
    if isinstance(objective, Kto):
        return isinstance(source, Conversation) and source.label is not None
    if isinstance(objective, Ppo | Grpo):
        return isinstance(source, (PromptSource, *Conversation))
    if isinstance(source, PreferenceSource):
        return True
    # One of the two alone is reported as that.
    return isinstance(source, Conversation) and (source.chosen or source.rejected) is not None


def _wrong_kind(spec: Spec, path: SpecPath, source: Source) -> Diagnostic:
    needed, help = NEEDS.get(type(spec.objective), PAIRS)
    if isinstance(spec.objective, Sft) and isinstance(source, PreferenceSource):
        help = f'to learn the better answers alone, use `format = "messages"` with `messages = "{source.chosen}"`'
    return error(
        "D707",
        f"`{spec.objective.type}` learns from {needed}, this source holds {_content(source)}",
        path,
        label=_content(source),
        labels=(Label(("objective", "type"), f"needs {needed}"),),
        helps=(help,),
    )


def _content(source: Source) -> str:
    if isinstance(source, PreferenceSource):
        return "preference pairs"
    if isinstance(source, TextSource):
        return "plain text"
    return "prompts" if isinstance(source, PromptSource) else "conversations"


def check_unused(spec: Spec) -> Iterator[Diagnostic]:
    """A column is named that the objective has no use for.

    Preference pairs belong to reward models, DPO, ORPO, SimPO and CPO; labels to KTO. Elsewhere the column is
    left alone, which is rarely what was meant.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/judged.jsonl", label = "label" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "kto"
    [data]
    sources = [{ format = "messages", path = "data/judged.jsonl", label = "label" }]
    ```
    """
    is_single = isinstance(spec.objective, Sft | Kto | Ppo | Grpo)
    for path, source in sources_of(spec):
        if not isinstance(source, Conversation):
            continue
        names = ["chosen", "rejected"] if is_single else []
        names += [] if isinstance(spec.objective, Kto) else ["label"]
        for name in names:
            if getattr(source, name) is not None:
                yield warning(
                    "D708",
                    f"`{spec.objective.type}` has no use for the column `{getattr(source, name)}`",
                    (*path, name),
                    labels=(Label(("objective", "type"), "the objective"),),
                )


def check_pair(spec: Spec) -> Iterator[Diagnostic]:
    """One answer of a preference pair is named without the other.

    Fails:
    ```toml
    [objective]
    type = "dpo"
    [data]
    sources = [{ format = "messages", path = "data/compared.jsonl", chosen = "chosen" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "dpo"
    [data]
    sources = [{ format = "messages", path = "data/compared.jsonl", chosen = "chosen", rejected = "rejected" }]
    ```
    """
    for path, source in sources_of(spec):
        half = _half(source)
        if half is not None:
            yield _half_pair((*path, half[0]), *half)


def check_declared_pair(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Say the same of entries of a catalog."""
    for path, source in declared(spec, facts):
        half = _half(source)
        if half is not None:
            yield _half_pair(path, *half)


def _half(source: Source) -> tuple[str, str] | None:
    """Return the answer that is named and the one that is not, where that is so."""
    if not isinstance(source, Conversation) or (source.chosen is None) == (source.rejected is None):
        return None
    return ("chosen", "rejected") if source.rejected is None else ("rejected", "chosen")


def _half_pair(path: SpecPath, given: str, other: str) -> Diagnostic:
    return error(
        "D709",
        f"`{given}` is named without `{other}`",
        path,
        helps=(f"name the column of the other answer with `{other}`",),
    )


RULES = (
    Rule("D707", "data of another kind", pure=check_kind, factual=check_declared_kind),
    Rule("D708", "column without use", pure=check_unused),
    Rule("D709", "half a pair", pure=check_pair, factual=check_declared_pair),
)
