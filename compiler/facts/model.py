"""Facts about a model folder: configuration, tensor shapes, tokenizer. Only headers are read, never weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from attrs import evolve, field, frozen

from .files import read_json, read_text

ModelState = Literal[
    "folder", "hub", "missing", "gguf", "file", "no-config", "bad-config", "impossible"
]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_ROUTES = ("models/", "datasets/", "spaces/")
"""Names that no organisation on the hub can have: such a path is a folder."""
MAX_HEADER_BYTES = 100 * 2**20
DTYPE_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
}


class WeightsError(Exception):
    """A weight file cannot be what it claims to be."""


@frozen
class TensorFacts:
    """Shape and number format of one tensor, as its safetensors header says."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def count(self) -> int:
        """Number of elements."""
        total = 1
        for size in self.shape:
            total *= size
        return total


@frozen
class ModelFacts:
    """What is known about a model (or tokenizer) without loading it."""

    state: ModelState
    config: Mapping[str, Any] = field(factory=dict)
    tensors: Mapping[str, TensorFacts] | None = None
    weights_fault: str | None = None
    template: str | None = None
    has_tokenizer: bool = False
    eos_token: str | None = None
    beside: bool = False
    """A hub id whose first part is also the name of a folder here."""

    @property
    def known(self) -> bool:
        """Tell whether tensor shapes are known."""
        return self.tensors is not None

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The configuration of the language part."""
        inner = self.config.get("text_config")
        return inner if isinstance(inner, Mapping) else self.config

    def number(self, name: str) -> int | None:
        """Return a whole number of the configuration, or None."""
        value = self.text_config.get(name)
        return value if type(value) is int else None

    def linear_modules(self) -> dict[str, TensorFacts]:
        """Return the two-dimensional weights by module, without embeddings and the output head."""
        return {
            name.removesuffix(".weight"): tensor
            for name, tensor in (self.tensors or {}).items()
            if name.endswith(".weight")
            and len(tensor.shape) == 2
            and not re.search(r"embed|wte|wpe|lm_head|embed_out", name.rsplit(".", 2)[-2])
        }

    def parameter_count(self) -> int | None:
        """Number of parameters in the weight files."""
        return None if self.tensors is None else sum(t.count for t in self.tensors.values())


def read_model(base: Path, path: str) -> ModelFacts:
    """Return the facts of the model at `path`, relative to `base`; a name that is no folder may be a hub id."""
    return _read(base, path, _read_folder)


def read_tokenizer(base: Path, path: str) -> ModelFacts:
    """Return the facts of a tokenizer, which needs neither `config.json` nor weights."""
    return _read(base, path, _read_tokenizer_folder)


def _read(base: Path, path: str, read_folder: Callable[[Path], ModelFacts]) -> ModelFacts:
    try:
        place = base / path
        if place.is_dir():
            return read_folder(place)
        if place.exists():
            return ModelFacts("gguf" if place.suffix == ".gguf" else "file")
        beside = (base / path.partition("/")[0]).is_dir()
    except (OSError, ValueError):
        return ModelFacts("impossible")
    is_local = path.endswith(".gguf") or path.startswith(HUB_ROUTES) or not HUB_ID.fullmatch(path)
    return ModelFacts("missing") if is_local else ModelFacts("hub", beside=beside)


def _read_folder(folder: Path) -> ModelFacts:
    if not (folder / "config.json").is_file():
        return ModelFacts("no-config")
    config = read_json(folder / "config.json")
    if config is None:
        return ModelFacts("bad-config")
    tensors, fault = _read_tensors(folder)
    tokenizer = _read_tokenizer_folder(folder)
    return evolve(tokenizer, config=config, tensors=tensors, weights_fault=fault)


def _read_tokenizer_folder(folder: Path) -> ModelFacts:
    settings = read_json(folder / "tokenizer_config.json") or {}
    return ModelFacts(
        "folder",
        template=_template(folder, settings),
        has_tokenizer=(folder / "tokenizer.json").is_file(),
        eos_token=_token_text(settings.get("eos_token")),
    )


def _read_tensors(folder: Path) -> tuple[Mapping[str, TensorFacts] | None, str | None]:
    try:
        return _tensors(folder), None
    except WeightsError as fault:
        return None, str(fault)
    except OSError as fault:
        return None, f"{Path(fault.filename or folder).name} cannot be read: {fault.strerror}"


def _tensors(folder: Path) -> dict[str, TensorFacts]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_shards(index)))
    else:
        names = ["model.safetensors"]
        if not (folder / names[0]).is_file():
            pickles = sorted(file.name for file in folder.glob("*.bin"))
            if pickles:
                raise WeightsError(f"only {pickles[0]} is there, a pickle, which is never loaded")
            raise WeightsError("no model.safetensors is there")
    tensors: dict[str, TensorFacts] = {}
    for name in names:
        if not (folder / name).is_file():
            raise WeightsError(f"{name}, which the index names, is missing")
        tensors.update(_header(folder / name))
    return tensors


def _shards(index: Path) -> list[str]:
    listed = (read_json(index) or {}).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise WeightsError(f"{index.name} has no weight_map")
    names = [str(name) for name in listed.values()]
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise WeightsError(f"{index.name} names a file outside the folder: {outside[0]!r}")
    return names


def _header(path: Path) -> dict[str, TensorFacts]:
    """Read the header of a safetensors file: 8 bytes of length, JSON, then the data the JSON describes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise WeightsError(f"{path.name} is damaged: it has no safetensors header")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            tensors = {name: _tensor(entry) for name, entry in header.items()}
            end = max((_whole(entry["data_offsets"][1]) for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise WeightsError(f"{path.name} is damaged: its header is not safetensors") from None
    if size != 8 + length + end:
        what = "truncated" if size < 8 + length + end else "longer than its header says"
        raise WeightsError(f"{path.name} is {what}: {size:,} bytes, {8 + length + end:,} expected")
    return tensors


def _tensor(entry: Any) -> TensorFacts:
    return TensorFacts(tuple(map(_whole, entry["shape"])), str(entry["dtype"]))


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    try:
        return read_text(folder / "chat_template.jinja")
    except (OSError, UnicodeDecodeError):
        value = settings.get("chat_template")
        return value if isinstance(value, str) else None


def _token_text(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
