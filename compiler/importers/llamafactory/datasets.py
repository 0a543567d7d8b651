"""`dataset`, `eval_dataset` and what belongs to them: names become sources."""

from __future__ import annotations

from ...diagnostics import SpecPath
from ..convert import UnfitError, as_float, as_list, as_text, clean
from ..placing import Import
from .dataset_info import Registry, put_source, similar

CATALOG = "datasets.toml"


def read_datasets(work: Import) -> None:
    """Write the training and evaluation sources."""
    registry = find_registry(work)
    for key, field in (("dataset", "sources"), ("eval_dataset", "eval_sources")):
        names = _names(work, key)
        for number, name in enumerate(names):
            _put(work, ("data", field, number), name, registry)
        if key == "dataset" and not names:
            _none(work)
    _limits(work)
    _weights(work)
    _media(work, registry)


def _none(work: Import) -> None:
    work.draft.put(("data", "sources"), [], "to fill in before training: nothing names data")
    if work.settings.verb == "train":
        work.ask("dataset", "no data are named; write a table `[[data.sources]]`")


def _names(work: Import, key: str) -> list[str]:
    if not work.settings.has(key):
        return []
    try:
        return [clean(as_text(name)) for name in as_list(work.settings.raw(key))]
    except UnfitError as unfit:
        work.lose(key, str(unfit))
        return []


def find_registry(work: Import) -> Registry | None:
    """Return the registry, read from where `dataset_dir` says or from a given file."""
    folder = work.settings.text("dataset_dir", "data")
    if folder == "ONLINE":
        return None
    if folder.startswith("REMOTE:"):
        work.ask("dataset_dir", f"fetch dataset_info.json from {folder[7:]} and give it as a FILE")
    found = work.library.find(f"{folder}/dataset_info.json")
    if found is None or not isinstance(found.data, dict):
        return None
    entries = {name: entry for name, entry in found.data.items() if isinstance(entry, dict)}
    return Registry(found.name, "" if folder.startswith("REMOTE:") else folder, entries)


def _put(work: Import, path: SpecPath, name: str, registry: Registry | None) -> None:
    work.draft.note(path, f"{path[1]}: {name}" + (f" of {registry.file}" if registry else ""))
    if work.settings.text("dataset_dir") == "ONLINE":
        _put_values(work, path, {"format": "alpaca", "path": name, "hub": _online(work)})
    elif registry is not None and name in registry.entries:
        put_source(work, path, name, registry)
    else:
        _put_values(work, path, {"format": "catalog", "entry": name})
        if registry is None:
            work.ask(
                "dataset",
                "dataset_info.json was not found: give it as another FILE, or make a catalog of it with "
                f"`tunec import dataset_info.json -o {CATALOG}`",
            )
        else:
            near = similar(name, list(registry.entries))
            work.lose("dataset", f"`{name[:60]}` does not stand in {registry.file}{near}")


def _online(work: Import) -> str:
    """Return the hub that names are ids of, which the environment decides."""
    if work.settings.switched("USE_MODELSCOPE_HUB"):
        return "modelscope"
    return "modelers" if work.settings.switched("USE_OPENMIND_HUB") else "huggingface"


def _put_values(work: Import, path: SpecPath, values: dict[str, str]) -> None:
    for field, value in values.items():
        work.draft.put((*path, field), value, "")


def _media(work: Import, registry: Registry | None) -> None:
    """Write the folder of media where it is not that of the rows."""
    if registry is None or ("media", "dir") in work.draft.entries:
        return
    folder = registry.folder.rstrip("/")
    for path in _sources(work, "sources", "eval_sources"):
        has_media = any(
            (*path, name) in work.draft.entries for name in ("images", "videos", "audios")
        )
        place = str(work.draft.value(*path, "path", default=""))
        if has_media and place.rpartition("/")[0] != folder:
            work.put("media.dir", folder, f"{work.by_default}: dataset_dir")


def _limits(work: Import) -> None:
    """Write `max_samples` to every source; `split` of earlier versions to those that have one."""
    limit = work.settings.number("max_samples")
    if work.settings.has("max_samples") and limit is None:
        work.lose("max_samples", "it is no number")
    for path in _sources(work, "sources", "eval_sources"):
        if limit is not None and limit >= 1:
            work.draft.put((*path, "limit"), int(limit), "max_samples")
        has_split = work.draft.value(*path, "format") != "catalog"
        if work.settings.has("split") and has_split and (*path, "split") not in work.draft.entries:
            work.draft.put((*path, "split"), work.settings.text("split"), "split")


def _sources(work: Import, *fields: str) -> list[SpecPath]:
    return [path for field in fields for path in work.draft.items(("data", field))]


def _weights(work: Import) -> None:
    if not work.settings.has("interleave_probs"):
        return
    paths = _sources(work, "sources")
    try:
        shares = [as_float(share) for share in as_list(work.settings.raw("interleave_probs"))]
    except UnfitError as unfit:
        work.lose("interleave_probs", str(unfit))
        return
    if len(shares) != len(paths):
        work.lose("interleave_probs", f"{len(shares)} shares for {len(paths)} data sets")
        return
    for path, share in zip(paths, shares, strict=True):
        work.draft.put((*path, "weight"), share, "interleave_probs")
