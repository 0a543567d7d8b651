"""Facts about weight files: shapes and number formats from safetensors headers, never the weights themselves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from .files import MAX_BYTES, open_regular, parse_json, read_json

MAX_NAME = 255
MAX_RANK = 32
MAX_SIZE = 2**63
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


def pickles(folder: Path) -> tuple[str, ...]:
    """Return the names of the weight files that are pickles."""
    try:
        return tuple(sorted(file.name for file in folder.glob("pytorch_model*.bin")))
    except OSError:
        return ()


def read_tensors(folder: Path) -> tuple[Mapping[str, TensorFacts] | None, str | None]:
    """Return the tensors of a model folder by name, and what is wrong with the files."""
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
            if found := pickles(folder):
                raise WeightsError(f"only {found[0]} is there, a pickle")
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
    outside = [name for name in names if Path(name).name != name or len(name) > MAX_NAME]
    if outside:
        raise WeightsError(
            f"{index.name} names a file outside the folder: {outside[0][:MAX_NAME]!a}"
        )
    return names


def _header(path: Path) -> dict[str, TensorFacts]:
    """Read the header of a safetensors file: 8 bytes of length, JSON, then the data the JSON describes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_BYTES):
            raise WeightsError(f"{path.name} is damaged: it has no safetensors header")
        try:
            header = parse_json(file.read(length).decode())
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
    shape, dtype = entry["shape"], entry["dtype"]
    if type(shape) is not list or len(shape) > MAX_RANK or type(dtype) is not str:
        raise ValueError("no tensor")
    tensor = TensorFacts(tuple(map(_whole, shape)), dtype)
    _whole(tensor.count)
    return tensor


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MAX_SIZE:
        raise ValueError("no size")
    return value
