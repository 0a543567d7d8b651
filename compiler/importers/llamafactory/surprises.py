"""Where LLaMA-Factory silently does something else than it is told."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from ..placing import Import

Test = Callable[[Import], bool]


@frozen
class Surprise:
    """A setting, when it surprises, and what really happened then."""

    key: str
    test: Test
    text: str


def _loss(*words: str) -> Test:
    return lambda work: (
        work.kinds["objective"] == "dpo" and work.settings.word("pref_loss") in words
    )


def _flag(name: str) -> Test:
    return lambda work: work.settings.flag(name)


def _has(name: str) -> Test:
    return lambda work: work.settings.has(name)


def _packed(work: Import) -> bool:
    return work.settings.flag("packing") or work.settings.flag("neat_packing")


SURPRISES = (
    Surprise(
        "pref_loss",
        _loss("hinge", "ipo", "kto_pair"),
        "with TRL 0.20 and later LLaMA-Factory computed the sigmoid loss whatever this said; "
        "tunec computes the loss that is named, so that results will differ",
    ),
    Surprise(
        "packing",
        lambda work: _packed(work) and work.kinds["objective"] not in ("pretraining", "sft"),
        "LLaMA-Factory did not pack here, and still took one token off `cutoff_len`; so does the spec",
    ),
    Surprise(
        "oft_target",
        lambda work: work.settings.word("oft_target", "all") != "all",
        "LLaMA-Factory never reads it: OFT went to the modules of `lora_target`, and so it does here",
    ),
    Surprise(
        "fp8_enable_fsdp_float8_all_gather",
        lambda work: (
            work.settings.flag("fp8_enable_fsdp_float8_all_gather")
            and not work.settings.flag("fp8")
        ),
        "LLaMA-Factory says that this switches `fp8` on, and does not; the spec does not either",
    ),
    Surprise(
        "sglang_config",
        _has("sglang_config"),
        "LLaMA-Factory reads it and never passes it on; tunec hands the options to SGLang",
    ),
    Surprise(
        "shift_attn",
        _flag("shift_attn"),
        "no version of transformers that LLaMA-Factory supports has it: such runs stopped",
    ),
    Surprise(
        "cutoff_len",
        lambda work: work.kinds["objective"] == "sft" and not _packed(work),
        "longer samples lost prompt and answer in proportion; tunec truncates their end (`data.too_long`)",
    ),
    Surprise(
        "freeze_language_model",
        lambda work: work.settings.flag("freeze_language_model") and work.kinds["method"] == "full",
        "with both towers frozen too, nothing would be trained",
    ),
    Surprise(
        "early_stopping_steps",
        lambda work: (
            work.settings.has("early_stopping_steps")
            and not work.settings.flag("load_best_model_at_end")
        ),
        "LLaMA-Factory stopped early and kept the last weights; `evaluation.load_best = true` keeps the best",
    ),
)


def report_surprises(work: Import) -> None:
    """Report each surprise that this import meets."""
    for surprise in SURPRISES:
        if surprise.test(work) and (work.settings.has(surprise.key) or surprise.key == "packing"):
            work.differs(surprise.key, surprise.text)
