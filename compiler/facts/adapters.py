"""Facts about folders of adapters in PEFT's layout. Weights are not read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from ..diagnostics import SpecPath
from ..spec import AdapterReward, Grpo, ModelReference, ModelReward, Spec
from .config import text, whole
from .files import read_json
from .model import HUB_ID, HUB_ROUTES

AdapterState = Literal[
    "folder", "hub", "missing", "file", "no-config", "bad-config", "no-weights", "impossible"
]
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@frozen
class AdapterFacts:
    """What is known about an adapter without loading it."""

    state: AdapterState
    config: Mapping[str, Any] = field(factory=dict)
    is_pickle: bool = False
    """The weights are there only as a pickle."""

    @property
    def known(self) -> bool:
        """Tell whether the configuration could be read."""
        return bool(self.config)

    @property
    def kind(self) -> str | None:
        """The name of the method, PEFT's in lower case, such as `lora`."""
        kind = text(self.config, "peft_type")
        if kind in ("LN_TUNING", "P_TUNING"):
            return kind.lower().replace("_", "-")
        return None if kind is None else kind.lower().replace("_tuning", "")

    @property
    def base(self) -> str | None:
        """Name or path of the model it was trained on."""
        return text(self.config, "base_model_name_or_path")

    @property
    def rank(self) -> int | None:
        """Its rank, where the method has one."""
        return whole(self.config, "r")

    @property
    def has_score_head(self) -> bool:
        """Tell whether it is a reward adapter: the head that scores is saved with it."""
        saved = self.config.get("modules_to_save")
        return isinstance(saved, list) and "score" in saved

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the modules it adapts; empty where a pattern says so."""
        listed = self.config.get("target_modules")
        return tuple(sorted(map(str, listed))) if isinstance(listed, list) else ()


def read_adapters(base: Path, spec: Spec) -> dict[SpecPath, AdapterFacts]:
    """Return the facts of every adapter the spec names, by the path of the setting that names it."""
    subfolder = spec.adapters.subfolder
    return {
        place: read_adapter(base, path, subfolder if place[0] == "adapters" else None)
        for place, path in named_adapters(spec)
    }


def named_adapters(spec: Spec) -> list[tuple[SpecPath, str]]:
    """Return path of the setting and path of the folder for every adapter the spec names."""
    named: list[tuple[SpecPath, str]] = [
        (("adapters", "paths", index), path) for index, path in enumerate(spec.adapters.paths)
    ]
    for name in ("reward", "reference"):
        part: object = getattr(spec.objective, name, None)
        place: SpecPath = ("objective", name)
        if isinstance(part, AdapterReward):
            named.append(((*place, "path"), part.path))
        elif isinstance(part, ModelReward | ModelReference):
            named += [((*place, "adapters", i), path) for i, path in enumerate(part.adapters)]
    several = spec.objective.rewards if isinstance(spec.objective, Grpo) else ()
    for number, part in enumerate(several):
        if isinstance(part, ModelReward):
            place = ("objective", "rewards", number, "adapters")
            named += [((*place, i), path) for i, path in enumerate(part.adapters)]
    return named


def read_adapter(base: Path, path: str, subfolder: str | None = None) -> AdapterFacts:
    """Return the facts of the adapter at `path`, relative to `base`; a name that is no folder may be a hub id."""
    try:
        place = base / path
        if place.is_dir():
            return _read_folder(place / (subfolder or ""))
        if place.exists():
            return AdapterFacts("file")
    except (OSError, ValueError):
        return AdapterFacts("impossible")
    is_local = path.startswith(HUB_ROUTES) or not HUB_ID.fullmatch(path)
    return AdapterFacts("missing" if is_local else "hub")


def _read_folder(folder: Path) -> AdapterFacts:
    if not (folder / "adapter_config.json").is_file():
        return AdapterFacts("no-config")
    config = read_json(folder / "adapter_config.json")
    if not config:
        return AdapterFacts("bad-config")
    weights = [name for name in WEIGHTS if (folder / name).is_file()]
    return AdapterFacts(
        "folder" if weights else "no-weights",
        config,
        is_pickle=weights[:1] == ["adapter_model.bin"],
    )
