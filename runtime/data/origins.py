"""Where samples are from: file and line of each, for people who must look at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .prepared import FILE, ORIGIN, Names, read_pointer

ROW = "row"


def places(rows: Sequence[Any], indices: Sequence[int], run_dir: Path) -> list[str]:
    """Return the places of samples, `file:line`, each once; of packed rows those of all samples in them.

    Where the place is not known, as in a stream, it is the number of the row, counted from 1.
    """
    try:
        names = read_pointer(run_dir).names
    except UserError:
        names = []
    found = (place for index in indices for place in _places(rows, index, names))
    return list(dict.fromkeys(found))


def _places(rows: Any, index: int, names: Sequence[Names]) -> Iterator[str]:
    bins, samples = getattr(rows, "bins", None), getattr(rows, "samples", None)
    if bins is not None:
        for member in bins[index]:
            yield from _places(rows.samples.rows, int(member), names)
    elif samples is not None and len(samples) == len(rows):
        yield from _places(samples.rows, index, names)
    elif getattr(rows, "chosen", None) is not None:
        number = int(rows.chosen[index])
        source, line = (int(part) for part in np.load(rows.folder / ORIGIN, mmap_mode="r")[number])
        file = int(np.load(rows.folder / FILE, mmap_mode="r")[number])
        yield names[source].place(file, line) if source < len(names) else f"{ROW} {index + 1}"
    else:
        yield f"{ROW} {index + 1}"
