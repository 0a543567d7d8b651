"""A configuration of accelerate: how many processes there are, and what shards their state."""

from __future__ import annotations

from typing import Any

from .convert import UnfitError, as_bool, as_int
from .draft import Kind, Remark
from .library import Library
from .settings import Given, Settings

SHARDINGS = {"1": "full_shard", "2": "shard_grad_op", "3": "", "4": "hybrid_shard"}
"""Numbers that accelerate gives to FSDP's strategies."""


def read_launcher_file(settings: Settings, near: Library, name: str) -> list[Remark]:
    """Take over what the launcher's file says; the settings of the command win."""
    loaded = near.find(name) if name else None
    if loaded is None or not isinstance(loaded.data, dict):
        text = f"`{name.rpartition('/')[2][:60]}` was not found: see `launch.processes` and `[deepspeed]`"
        return [Remark(Kind.DO, "config_file", text)] if name else []
    data = loaded.data
    settings.processes = settings.processes or _number(data.get("num_processes"))
    settings.nodes = max(settings.nodes, _number(data.get("num_machines")) or 1)
    kind = str(data.get("distributed_type", "")).upper()
    if kind == "FSDP":
        settings.given.setdefault("fsdp", Given(_fsdp(data), loaded.name))
    inner = data.get("deepspeed_config")
    file = inner.get("deepspeed_config_file") if isinstance(inner, dict) else None
    if kind == "DEEPSPEED" and isinstance(file, str):
        settings.given.setdefault("deepspeed", Given(file, loaded.name))
    return []


def _number(raw: Any) -> int | None:
    try:
        number = as_int(raw)
    except UnfitError:
        return None
    return number if 0 < number <= 100_000 else None


def _fsdp(data: dict[str, Any]) -> str:
    inner = data.get("fsdp_config")
    config = inner if isinstance(inner, dict) else {}
    word = str(config.get("fsdp_sharding_strategy", "full_shard")).lower()
    try:
        offload = as_bool(config.get("fsdp_offload_params", False))
    except UnfitError:
        offload = False
    return f"{SHARDINGS.get(word, word)}{' offload' if offload else ''}"
