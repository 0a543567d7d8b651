"""A reference whose log-probabilities are computed once, before the first step, and kept beside the prepared data."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.batches import lengths_of
from ..data.layouts import Batches, eval_batches
from ..data.prepared import read_pointer
from ..data.referenced import Floats, Integers, ReferencedRows
from ..data.samples import IGNORED, Samples
from ..data.store import locked
from ..errors import ExitCode, UserError
from ..models.adapters.switching import evaluating
from ..models.fingerprint import fingerprint
from ..storage import commit_directory, staging_directory, verify_directory
from .chunked import Wanted
from .references import AdapterOff, Reference
from .scores import PLAIN, Scorer

FOLDER = "references"
"""Folder of prepared data (or of a run, where those cannot be written) for log-probabilities."""
REDUCED = 2**24
"""Log-probabilities that are added up over the processes at a time."""


class Precomputed(Reference):
    """The log-probabilities of another reference, or of the policy before its first step, computed once.

    All processes share the work. What was computed is used again by later runs on the same data from the same weights,
    and by those that resume.
    """

    def __init__(self, start: Reference | None = None) -> None:
        """Take what computes them; None is the policy itself."""
        self._start: Reference | None = start or _Policy()
        self._parts: list[tuple[Samples, ReferencedRows]] = []

    def attach(self, model: Any, scorer: Scorer) -> str:
        """Note what the weights are at the start: a checkpoint that is loaded later changes them."""
        assert self._start is not None
        told = self._start.attach(model, scorer)
        self._weights = fingerprint(model, trained=not isinstance(self._start, AdapterOff))
        return f"log-probabilities computed once, of {told}"

    def with_samples(self, samples: Samples) -> Samples:
        """Return samples that will know their log-probabilities."""
        if samples.sets:
            sets = {name: self.with_samples(each) for name, each in samples.sets.items()}
            return replace(samples, sets=sets)
        if not len(samples):
            return samples
        rows = ReferencedRows(samples.rows)
        self._parts.append((samples, rows))
        return replace(samples, rows=rows)

    def log_probs(self, model: Any, batch: Mapping[str, Tensor], wanted: Wanted = PLAIN) -> Tensor:
        """Return the log-probabilities that the batch holds."""
        if "reference" not in batch:
            raise UserError(
                "a batch came without the log-probabilities of the reference",
                code=ExitCode.INTERNAL,
            )
        return batch["reference"][:, 1:][batch["labels"][:, 1:] != IGNORED]

    def begin(self, trainer: Any) -> None:
        """Read the log-probabilities, or compute them.

        Raises:
            UserError: (CHECKPOINT) they are gone, and the policy is no longer the one they are of.
        """
        folder = self._folder(trainer.session.run_dir)
        found = _complete(folder)
        known = torch.tensor([found, not found], dtype=torch.int64, device=trainer.args.device)
        trainer._reduce(known)
        if int(known[1]):
            arrays = self._computed(trainer, folder)
            if not found and int(os.environ.get("LOCAL_RANK") or 0) == 0:
                _write(folder, arrays)
            trainer._barrier()
        else:
            trainer.session.say(f"reference: log-probabilities of an earlier run, {folder.name}")
        for number, (_, rows) in enumerate(self._parts):
            rows.put(*_read(folder, number))
        # A copy of an adapter has done its work.
        self._start = None

    def _folder(self, run_dir: Path) -> Path:
        """Return where they are kept, under a name made of weights and data."""
        prepared = read_pointer(run_dir).folder
        seen = hashlib.sha256(f"1 {self._weights} {prepared.name}".encode())
        for samples, _ in self._parts:
            seen.update(_some(samples).encode())
        place = prepared if os.access(prepared, os.W_OK) else run_dir
        return place / FOLDER / seen.hexdigest()[:16]

    def _computed(self, trainer: Any, folder: Path) -> list[tuple[Floats, Integers]]:
        if trainer.state.global_step and isinstance(self._start, _Policy):
            raise UserError(
                "the log-probabilities of the starting policy are gone or torn, and the policy has changed since: "
                f"{folder}",
                help="start again with --overwrite, or put the folder back",
                code=ExitCode.CHECKPOINT,
            )
        count = sum(len(samples) for samples, _ in self._parts)
        trainer.session.say(f"reference: computing the log-probabilities of {count:,} samples")
        since = time.monotonic()
        with trainer.session.clock.phase("reference"):
            assert self._start is not None
            arrays = [self._part(trainer, self._start, samples) for samples, _ in self._parts]
        seconds = time.monotonic() - since
        trainer.session.say(f"reference: computed in {seconds:,.0f} s, kept as {folder.name}")
        return arrays

    def _part(self, trainer: Any, start: Reference, samples: Samples) -> tuple[Floats, Integers]:
        """Return the log-probabilities of all samples, and how many each of their sequences has."""
        session, device = trainer.session, trainer.args.device
        order = eval_batches(
            lengths_of(samples), trainer.micro_size, rank=session.rank, num_ranks=session.num_ranks
        )
        batches, found = Batches(samples, trainer.collator), {}
        counts = torch.zeros((len(samples), 2), dtype=torch.int64)
        for indices in _shown(order, is_shown=session.is_main):
            batch = trainer._prepare_inputs(batches[indices])
            log_probs = start.log_probs(trainer.model_wrapped, batch).float().cpu()
            lengths = (batch["labels"][:, 1:] != IGNORED).sum(1).tolist()
            parts = torch.split(log_probs, lengths)
            for row, values in enumerate(parts[: 2 * len(indices)]):
                index, side = indices[row % len(indices)], row // len(indices)
                found[index, side] = values
                counts[index, side] = len(values)
        total = counts.to(device)
        trainer._reduce(total)
        counts = total.cpu()
        ends = counts.flatten().cumsum(0)
        values = torch.zeros(int(ends[-1]), dtype=torch.float32)
        for (index, side), each in found.items():
            end = int(ends[2 * index + side])
            values[end - len(each) : end] = each
        for at in range(0, len(values), REDUCED):
            part = values[at : at + REDUCED]
            moved = part.to(device)
            trainer._reduce(moved)
            part.copy_(moved)
        return values.numpy(), counts.numpy()


class _Policy(Reference):
    """The policy itself, which is its own reference before its first step."""

    def attach(self, model: Any, scorer: Scorer) -> str:
        """Remember the policy."""
        self._model, self._scorer = model, scorer
        return "the policy before its first step"

    @contextmanager
    def scoring(self, model: Any) -> Iterator[tuple[Any, Scorer]]:
        """Work without dropout."""
        with evaluating(self._model):
            yield model, self._scorer


def _some(samples: Samples) -> str:
    """Return a digest of some samples: which data are prepared is known, this tells what is made of them."""
    found = hashlib.sha256(f"{len(samples)}".encode())
    for index in range(0, len(samples), max(1, len(samples) // 256)):
        sample = samples[index]
        for each in (sample, sample.rejected):
            if each is not None:
                found.update(np.array([each.input_ids, each.labels], np.int64).tobytes())
    return found.hexdigest()


def _complete(folder: Path) -> bool:
    """Tell whether the folder is there and whole; a torn one counts as none."""
    try:
        verify_directory(folder, deep=True)
    except UserError:
        return False
    return True


def _write(folder: Path, arrays: list[tuple[Floats, Integers]]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent):
        if _complete(folder):
            return
        staging = staging_directory(folder)
        for number, (values, counts) in enumerate(arrays):
            np.save(staging / f"{number}.npy", values)
            np.save(staging / f"{number}-counts.npy", counts)
        commit_directory(staging, folder, {"parts": len(arrays)})


def _read(folder: Path, number: int) -> tuple[Floats, Integers]:
    values: Floats = np.load(folder / f"{number}.npy", mmap_mode="r")
    counts: Integers = np.load(folder / f"{number}-counts.npy")
    return values, counts


def _shown(order: Iterable[list[int]], *, is_shown: bool) -> Iterable[list[int]]:
    """Return the same with a progress bar on a terminal."""
    if not is_shown or not sys.stderr.isatty():
        return order
    from tqdm import tqdm

    bar: Iterable[list[int]] = tqdm(order, unit="batch", dynamic_ncols=True, desc="reference")
    return bar
