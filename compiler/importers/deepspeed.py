"""A DeepSpeed JSON: what it says goes to `[deepspeed]`, `[batch]`, `[training]` and `[optimizer]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .convert import SKIP, UnfitError, as_bool, as_float, as_list, is_nothing
from .homes import DEEPSPEED
from .homes.entries import ABSENT, Home, Replaced
from .paths import find
from .placing import Import

BUCKETS = (
    "reduce_bucket_size",
    "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold",
)
OPTIMIZERS = {"adam": "adamw", "adamw": "adamw", "lion": "lion", "muon": "muon", "sgd": "sgd"}
SCHEDULES = {"warmuplr": "constant", "warmupdecaylr": "linear", "warmupcosinelr": "cosine"}
STAGES = {"reduce_bucket_size": (1, 2, 3), "allgather_bucket_size": (1, 2)}
"""Buckets whose default is another one here, and the stages that have them."""

TOLD = frozenset({"train_batch_size", "train_micro_batch_size_per_gpu", "zero_optimization"})


def is_deepspeed(data: Any) -> bool:
    """Return whether data are those of a DeepSpeed configuration."""
    return isinstance(data, dict) and bool(TOLD & data.keys())


def put_deepspeed(work: Import, data: Mapping[str, Any], file: str) -> None:
    """Write the settings of a configuration; `auto` is resolved by what the run says, or left to tunec."""
    for key, raw in _flat(data):
        entry = DEEPSPEED.get(key)
        if isinstance(raw, str) and raw.strip().lower() == "auto":
            _auto(work, key)
        elif entry is None:
            work.lose(f"{file}: {key}", "tunec does not know it, so that it cannot vouch for it")
        elif isinstance(entry, Replaced):
            if entry.loses(raw):
                work.lose(f"{file}: {key}", entry.text)
        elif not is_nothing(raw):
            for home in entry:
                _put(work, home, key, raw, file)
    _together(work, data, file)
    _defaults(work, data)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _auto(work: Import, key: str) -> None:
    name = key.rpartition(".")[2]
    if name in BUCKETS:
        work.draft.note(
            ("deepspeed",),
            f"{name} is auto (from the model's hidden size): tunec's default is used",
        )


def _put(work: Import, home: Home, key: str, raw: Any, file: str) -> None:
    where = find(home.path, work.kinds, work.items)
    if where is None or home.together:
        return
    try:
        value = home.convert(raw, where.type)
    except UnfitError as unfit:
        work.lose(f"{file}: {key}", str(unfit))
        return
    earlier = work.draft.entries.get(where.path)
    if earlier is not None and earlier.value != value and not earlier.comment.startswith(file):
        work.lose(f"{file}: {key}", f"`{earlier.comment}` says {earlier.value}, which is kept")
    elif value is not SKIP:
        work.draft.put(where.path, value, f"{file}: {key}")


def _together(work: Import, data: Mapping[str, Any], file: str) -> None:
    for name in ("bf16", "fp16"):
        if _is_on(data, name, "enabled") and ("training", "precision") not in work.draft.entries:
            work.put("training.precision", name, f"{file}: {name}.enabled")
    kind = str(_part(data, "optimizer").get("type", "")).lower()
    if kind in OPTIMIZERS and "optimizer" not in work.kinds:
        work.choose("optimizer", OPTIMIZERS[kind], f"{file}: optimizer.type")
    elif kind and kind not in OPTIMIZERS:
        work.lose(f"{file}: optimizer.type", f"`{kind[:40]}` is no optimizer here")
    _betas(work, data, file)
    _schedule(work, data, file)


def _part(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    found: Any = data
    for name in names:
        found = found.get(name) if isinstance(found, dict | Mapping) else None
    return found if isinstance(found, dict) else {}


def _is_on(data: Mapping[str, Any], part: str, name: str) -> bool:
    try:
        return as_bool(_part(data, part).get(name, False))
    except UnfitError:
        return False


def _betas(work: Import, data: Mapping[str, Any], file: str) -> None:
    raw = _part(data, "optimizer", "params").get("betas", "auto")
    if raw == "auto" or find("optimizer.beta1", work.kinds, work.items) is None:
        return
    try:
        numbers = [as_float(number) for number in as_list(raw)]
    except UnfitError:
        numbers = []
    if len(numbers) != 2:
        work.lose(f"{file}: optimizer.params.betas", "two numbers belong there")
        return
    for name, number in zip(("beta1", "beta2"), numbers, strict=True):
        work.put(f"optimizer.{name}", number, f"{file}: optimizer.params.betas")


def _schedule(work: Import, data: Mapping[str, Any], file: str) -> None:
    kind = str(_part(data, "scheduler").get("type", ""))
    if not kind:
        return
    if kind.lower() not in SCHEDULES:
        work.lose(f"{file}: scheduler.type", f"`{kind[:40]}` is no schedule here")
    elif ("training", "schedule") not in work.draft.entries:
        work.put("training.schedule", SCHEDULES[kind.lower()], f"{file}: scheduler.type")


def _defaults(work: Import, data: Mapping[str, Any]) -> None:
    """Write DeepSpeed's own defaults where tunec has others."""
    part = _part(data, "zero_optimization")
    stage = work.draft.value("deepspeed", "zero_stage", default=0)
    work.put("deepspeed.zero_stage", stage, _comment(work, "deepspeed", "zero_stage"))
    for key, entry in DEEPSPEED.items():
        name = key.rpartition(".")[2]
        for home in entry if isinstance(entry, tuple) else ():
            if home.default is not ABSENT and name not in part and stage in STAGES[name]:
                work.put(home.path, home.default, "DeepSpeed's default")
    if "overlap_comm" not in part and stage in (1, 2):
        work.put("deepspeed.overlap_communication", False, "DeepSpeed's default")


def _comment(work: Import, *path: str) -> str:
    entry = work.draft.entries.get(path)
    return entry.comment if entry else "DeepSpeed's default"


def read_deepspeed(work: Import) -> None:
    """Read the configuration that a trainer's `deepspeed` names."""
    raw = work.settings.raw("deepspeed")
    if isinstance(raw, dict):
        put_deepspeed(work, raw, "deepspeed")
        return
    loaded = work.library.find(str(raw)) if isinstance(raw, str) else None
    if loaded is None:
        work.put("deepspeed.zero_stage", _stage_in(str(raw)), "guessed from the name of the file")
        name = str(raw).rpartition("/")[2][:60]
        work.ask("deepspeed", f"`{name}` was not found: give it as another FILE")
    elif is_deepspeed(loaded.data):
        put_deepspeed(work, loaded.data, loaded.name)
    else:
        work.lose("deepspeed", f"{loaded.name} is no DeepSpeed configuration")


def _stage_in(name: str) -> int:
    lower = name.lower()
    return next((n for n in (3, 2, 1, 0) if f"z{n}" in lower or f"zero{n}" in lower), 2)


SHARDS = {"full_shard": 3, "hybrid_shard": 3, "shard_grad_op": 2}


def read_fsdp(work: Import) -> None:
    """Let ZeRO shard what FSDP would have."""
    words = work.settings.text("fsdp").lower().replace(",", " ").split()
    stage = next((SHARDS[word] for word in words if word in SHARDS), 0)
    work.put("deepspeed.zero_stage", stage, "fsdp")
    work.differs("fsdp", f"ZeRO stage {stage} takes the place of FSDP")
    if "offload" in words and stage == 3:
        work.put("deepspeed.offload_parameters", "cpu", "fsdp")
        work.put("deepspeed.offload_optimizer", "cpu", "fsdp")


def settle_batch(work: Import) -> None:
    """Leave the global batch out where the two other sizes stand: with unknown processes it could contradict."""
    has = {
        name: ("batch", name) in work.draft.entries for name in ("micro_size", "accumulation_steps")
    }
    found = work.draft.entries.get(("batch", "global_size"))
    if found is not None and all(has.values()):
        del work.draft.entries["batch", "global_size"]
        work.idle(found.comment, "micro size, accumulation and processes decide")
