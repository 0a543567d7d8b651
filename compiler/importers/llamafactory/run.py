"""A configuration of LLaMA-Factory to a draft of a spec."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from ..deepspeed import read_deepspeed, read_fsdp, settle_batch
from ..homes import OLD_NAMES, entries
from ..placing import Import, drop_idle_defaults, fill_required, place_all, place_defaults
from . import together
from .dataset_info import similar
from .datasets import read_datasets
from .kinds import choose_kinds
from .optimizer import read_optimizer
from .schedule import read_intervals, read_length, read_schedule_settings, read_warmup
from .surprises import report_surprises

READERS: tuple[Callable[[Import], None], ...] = (
    together.read_model,
    together.read_output,
    together.read_packing,
    together.read_loss_tokens,
    together.read_blocks,
    together.read_pissa,
    together.read_thinking,
    together.read_new_tokens,
    together.read_checkpointing,
    together.read_precision,
    together.read_generation,
    together.read_sampling,
    together.read_debug,
    together.read_processes,
    together.read_hub,
    read_datasets,
    read_length,
    read_warmup,
    read_schedule_settings,
    read_intervals,
)
EVALUATED = ("eval_dataset", "val_size")


def import_run(work: Import) -> None:
    """Fill the draft of an import from its settings."""
    _rename(work)
    work.settings.verb = _verb(work)
    table = entries()
    _report_unknown(work)
    choose_kinds(work)
    read_optimizer(work)
    place_all(work, table)
    for read in READERS:
        read(work)
    _engine(work)
    place_defaults(work, table)
    drop_idle_defaults(work, is_evaluated=any(map(work.settings.has, EVALUATED)))
    settle_batch(work)
    fill_required(work)
    report_surprises(work)


def _rename(work: Import) -> None:
    """Give settings of earlier versions today's names; a value under today's name wins."""
    for old, new in OLD_NAMES.items():
        given = work.settings.given.pop(old, None)
        if given is not None and new not in work.settings.given:
            work.settings.given[new] = evolve(given, written=old)


def _report_unknown(work: Import) -> None:
    names = list(entries())
    for name in work.settings.given:
        if name not in entries():
            work.lose(name, f"LLaMA-Factory has no such setting{similar(name, names)}")


def _engine(work: Import) -> None:
    """Say how state is spread: by DeepSpeed, by FSDP, or not at all."""
    if work.settings.has("deepspeed"):
        read_deepspeed(work)
    elif work.settings.has("fsdp") and work.settings.text("fsdp").strip("[]"):
        read_fsdp(work)
    elif work.settings.verb == "train":
        work.put("deepspeed.zero_stage", 0, f"{work.by_default}: nothing is sharded")


def _verb(work: Import) -> str:
    """Return what a configuration is for: one without data, stage and `do_train` only uses a model."""
    trains = any(map(work.settings.has, ("dataset", "stage", "do_train", "learning_rate")))
    uses = any(map(work.settings.has, ("export_dir", "infer_backend", "adapter_name_or_path")))
    return "chat" if work.settings.verb == "train" and uses and not trains else work.settings.verb
