"""`[run]`: what the run is called, where it lives, and what happens when it already exists."""

from __future__ import annotations

from typing import Literal

from .kinds import section

OnExisting = Literal["refuse", "resume", "overwrite"]


@section
class Run:
    """The run as a whole."""

    output_dir: str
    """Run folder, relative to the spec. Programs, logs, checkpoints and the final weights go here."""

    name: str = "run"
    """Short name shown in logs, plots and reports."""

    on_existing: OnExisting = "refuse"
    """What to do when the folder holds an earlier run: `refuse` to start, `resume` from the newest complete
    checkpoint (what a scheduler's requeue wants), or `overwrite` the earlier run."""

    resume_from: str | None = None
    """Checkpoint of another run to go on from, relative to the spec. Default: the newest of this one."""
