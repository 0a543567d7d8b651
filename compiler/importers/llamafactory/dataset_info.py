"""`dataset_info.json`: an entry of the registry becomes a source."""

from __future__ import annotations

import difflib
from typing import Any

from attrs import frozen

from ...diagnostics import SpecPath
from ...field_types import fields_of, table_classes
from ...spec import Data
from ..convert import UnfitError, as_bool, as_text, clean, is_nothing, same
from ..homes import DATASET_INFO
from ..homes.entries import Replaced
from ..paths import kind_of
from ..placing import Import

SOURCE_KEYS = frozenset(
    {"hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "file_name"}
)
HUBS = {"hf_hub_url": "huggingface", "ms_hub_url": "modelscope", "om_hub_url": "modelers"}
FORMATS = {"alpaca": "alpaca", "sharegpt": "sharegpt", "openai": "messages"}
SOURCES = {kind_of(cls): cls for cls in table_classes(fields_of(Data)["sources"].type)}


@frozen
class Registry:
    """The entries of a `dataset_info.json`, and the folder its paths start from."""

    file: str
    folder: str
    entries: dict[str, Any]


def is_registry(data: Any) -> bool:
    """Return whether data are those of a `dataset_info.json`."""
    return (
        isinstance(data, dict)
        and bool(data)
        and all(isinstance(entry, dict) and SOURCE_KEYS & entry.keys() for entry in data.values())
    )


def put_source(work: Import, path: SpecPath, name: str, registry: Registry) -> None:
    """Write the source that an entry of the registry describes."""
    entry = registry.entries[name]
    kind = _format(work, name, entry)
    put = _Writer(work, path, registry.file, name, SOURCES[kind])
    why = "formatting" if "formatting" in entry else work.by_default
    if kind == "text" and work.kinds.get("objective") != "pretraining":
        why = "columns name no answer"
    put("format", kind, why)
    put("name", clean(name), "")
    _place(put, entry, registry)
    for key in ("subset", "split", "folder", "num_samples"):
        put.home(key, entry.get(key))
    _columns(put, entry, kind)
    _report(put, entry)


@frozen
class _Writer:
    """Puts values into one source."""

    work: Import
    path: SpecPath
    file: str
    entry: str
    cls: type

    def __call__(self, field: str, value: Any, key: str) -> None:
        self.work.draft.put((*self.path, field), value, key)

    def home(self, key: str, raw: Any) -> None:
        """Put a value at the home of its key, if this kind of source has one."""
        homes = DATASET_INFO[key]
        if is_nothing(raw) or isinstance(homes, Replaced):
            return
        names = [home.path.rpartition(".")[2] for home in homes]
        for field in (name for name in names if name in fields_of(self.cls)):
            self.typed(field, raw, key)
            return
        self.lose(key, f"a source of this format has no {' or '.join(names)}")

    def typed(self, field: str, raw: Any, key: str) -> None:
        """Put a value of the field's type."""
        try:
            self(field, same(raw, fields_of(self.cls)[field].type), key)
        except UnfitError as unfit:
            self.lose(key, str(unfit))

    def lose(self, key: str, why: str) -> None:
        """Report a key without a place."""
        self.work.lose(f"{self.file}: {self.entry}.{key}", why)


def _format(work: Import, name: str, entry: dict[str, Any]) -> str:
    word = str(entry.get("formatting") or "alpaca")
    if word not in FORMATS:
        work.lose(f"{name}.formatting", f"`{word[:40]}` is none of {', '.join(FORMATS)}")
    kind = FORMATS.get(word, "alpaca")
    if kind != "alpaca":
        return kind
    objective = work.kinds.get("objective")
    is_text = objective == "pretraining" or (objective != "ppo" and _has_no_answer(entry))
    return "text" if is_text else kind


def _has_no_answer(entry: dict[str, Any]) -> bool:
    """Tell whether an entry names columns, but none with answers: those it does not name are not read."""
    columns = entry.get("columns")
    answers = ("response", "chosen", "rejected", "query", "kto_tag")
    return (
        isinstance(columns, dict)
        and not is_nothing(columns.get("prompt"))
        and all(is_nothing(columns.get(name)) for name in answers)
    )


def _place(put: _Writer, entry: dict[str, Any], registry: Registry) -> None:
    """Write where the rows are: a hub before a cloud before a file, as LLaMA-Factory looks."""
    hub = _hub(put.work, entry)
    if hub:
        put.typed("path", entry[hub], hub)
        put("hub", HUBS[hub], hub)
        if not put.work.draft.value(*put.path, "path"):
            put("path", "FILL-IN", hub)
    elif not is_nothing(entry.get("script_url")):
        put("path", "FILL-IN", "script_url")
        put.lose("script_url", _why("script_url"))
    elif not is_nothing(entry.get("cloud_file_name")):
        put.typed("path", entry["cloud_file_name"], "cloud_file_name")
    else:
        _file(put, entry.get("file_name"), registry)


def _why(key: str) -> str:
    entry = DATASET_INFO[key]
    return entry.text if isinstance(entry, Replaced) else ""


def _hub(work: Import, entry: dict[str, Any]) -> str:
    """Return the key of the hub that counts: ModelScope's and Modelers' only when asked for, or alone."""
    named = [key for key in HUBS if not is_nothing(entry.get(key))]
    wanted = [
        key
        for key, variable in (
            ("ms_hub_url", "USE_MODELSCOPE_HUB"),
            ("om_hub_url", "USE_OPENMIND_HUB"),
        )
        if work.settings.switched(variable)
    ]
    return next((key for key in [*wanted, *named] if key in named), "")


def _file(put: _Writer, raw: Any, registry: Registry) -> None:
    try:
        name = as_text(raw) if not is_nothing(raw) else ""
    except UnfitError:
        name = ""
    if not name:
        put.lose("file_name", "the entry names no file and no hub")
    folder = registry.folder.rstrip("/")
    is_below = folder and folder != "." and not name.startswith("/")
    put("path", clean(f"{folder}/{name}" if is_below else name) or "FILL-IN", "file_name")


def _columns(put: _Writer, entry: dict[str, Any], kind: str) -> None:
    columns = entry.get("columns")
    is_ranking = _is_on(entry.get("ranking"))
    for key, raw in columns.items() if isinstance(columns, dict) else ():
        if key in ("chosen", "rejected") and not is_ranking:
            put.work.idle(f"{put.entry}.columns.{key}", "without `ranking` it is not read")
        else:
            _column(put, f"columns.{key}", raw, kind)
    if kind == "messages" and "messages" not in _written(put):
        put("messages", "conversations", put.work.by_default)
    if kind == "alpaca" and isinstance(columns, dict) and is_nothing(columns.get("query")):
        put("input", "", "columns has no query: none is read")
    if kind == "text" and "text" not in _written(put):
        put("text", "instruction", put.work.by_default)
    tags = entry.get("tags")
    for key, raw in tags.items() if isinstance(tags, dict) else ():
        _column(put, f"tags.{key}", raw, kind)


def _written(put: _Writer) -> set[Any]:
    size = len(put.path)
    return {path[size] for path in put.work.draft.entries if path[:size] == put.path}


def _column(put: _Writer, key: str, raw: Any, kind: str) -> None:
    if key not in DATASET_INFO:
        put.lose(key, "the key is not known")
    elif kind == "text" and key in ("columns.query", "columns.response", "columns.history"):
        put.work.idle(f"{put.entry}.{key}", "pretraining reads the text alone")
    elif kind == "messages" and key.startswith("tags.") and key.endswith(("user_tag", "tant_tag")):
        _message_tag(put, key, raw)
    else:
        put.home(key, raw)


def _message_tag(put: _Writer, key: str, raw: Any) -> None:
    usual = key.removeprefix("tags.").removesuffix("_tag")
    if raw != usual:
        put.lose(key, f'`messages` always calls the {usual} `{usual}`; use `format = "sharegpt"`')


def _report(put: _Writer, entry: dict[str, Any]) -> None:
    """Report what the entry says beyond its homes."""
    for key in entry:
        if key not in DATASET_INFO:
            put.lose(key, "the key is not known")
    if _is_on(entry.get("ranking")) and "chosen" not in _written(put):
        put.lose("ranking", "pairs need the columns `chosen` and `rejected`")
    if put.cls is SOURCES["messages"]:
        put.work.differs(
            put.entry,
            "LLaMA-Factory adds the words `detailed thinking off` to the system prompt of openai data; tunec does not",
        )


def _is_on(raw: Any) -> bool:
    try:
        return not is_nothing(raw) and as_bool(raw)
    except UnfitError:
        return False


def similar(name: str, names: list[str]) -> str:
    """Return `; similar: ...` with the names most like one."""
    near = difflib.get_close_matches(name[:64], names, n=3, cutoff=0.6)
    return f"; similar: {', '.join(near)}" if near else ""
