"""An earlier run in the same folder: whether to refuse it, to resume it or to start over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import ExitCode, UserError
from .options import Options, say
from .rank import is_alive
from .records import read_json, read_pids
from .storage import Committed, newest_committed, step_directories, step_of


@dataclass(frozen=True)
class Earlier:
    """What an earlier attempt left in the run folder."""

    done: bool
    newest: Committed | None
    skipped: list[str]
    has_steps: bool
    has_metrics: bool

    def exists(self) -> bool:
        """Tell whether there is anything to lose."""
        return self.done or self.newest is not None or self.has_metrics

    def progress(self) -> str:
        """Return how far it came, for people."""
        if self.newest is None:
            return "the beginning (it has no complete checkpoint)"
        total = self.newest.meta.get("total_steps")
        suffix = f" of {total}" if isinstance(total, int) else ""
        return f"step {step_of(self.newest.path)}{suffix}"


def inspect(run_dir: Path, *, deep: bool) -> Earlier:
    """Look at what is in the run folder; `deep` reads the newest checkpoint through."""
    skipped: list[str] = []
    checkpoints = run_dir / "checkpoints"
    return Earlier(
        done=read_json(run_dir / "result.json").get("status") == "done",
        newest=newest_committed(checkpoints, deep=deep, skipped=skipped),
        skipped=skipped,
        has_steps=bool(step_directories(checkpoints)),
        has_metrics=(run_dir / "metrics.jsonl").exists(),
    )


def refuse_living_ranks(run_dir: Path) -> None:
    """Refuse while ranks live whose supervisor was killed: they are about to save in this folder."""
    living = [rank.pid for rank in read_pids(run_dir) if is_alive(rank.pid, rank.started)]
    if living:
        pids = ", ".join(map(str, sorted(living)))
        raise UserError(
            f"processes of an earlier attempt still run in {run_dir}: {pids}",
            help="they save and end by themselves; wait for them, or end them with kill",
            code=ExitCode.CONFLICT,
        )


def is_finished(options: Options, earlier: Earlier) -> bool:
    """Say so when there is nothing left to resume; refuse what nobody has decided on."""
    if options.on_existing == "refuse" and earlier.exists():
        raise _existing_error(options.run_dir, earlier)
    if options.on_existing == "resume" and earlier.done:
        say(f"this run is finished already: {options.run_dir}")
        return True
    return False


def _existing_error(run_dir: Path, earlier: Earlier) -> UserError:
    if earlier.done:
        what, resume = "a finished run", "has nothing left to do"
    else:
        what, resume = "an earlier run", f"continues from {earlier.progress()}"
    return UserError(
        f"{run_dir} holds {what}; choose what becomes of it",
        help=f"`--resume` {resume}\n"
        "        `--overwrite` deletes checkpoints, logs, metrics, plots and final weights of the "
        "earlier run and starts again",
        code=ExitCode.CONFLICT,
    )


def checkpoint_to_resume(options: Options, earlier: Earlier) -> Path | None:
    """Return the checkpoint to continue from; None to start from the beginning.

    Raises:
        UserError: there are checkpoints, and none is complete (code CHECKPOINT).
    """
    if options.on_existing != "resume":
        return None
    for line in earlier.skipped:
        say(f"warning: {line}")
    if earlier.newest is not None:
        say(f"resuming from {earlier.progress()}")
        return earlier.newest.path
    if earlier.has_steps:
        raise UserError(
            "no checkpoint of this run is usable, see above",
            help="`--overwrite` deletes what the run has written and starts again",
            code=ExitCode.CHECKPOINT,
        )
    if earlier.exists():
        say("the earlier attempt saved no checkpoint: starting from the beginning")
    return None
