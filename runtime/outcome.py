"""How an attempt ended: the exit code, and what to say about it."""

from __future__ import annotations

from pathlib import Path

from .errors import ExitCode, UserError
from .processes import ending
from .records import Record, read_records, read_result
from .storage import newest_committed
from .watch import Watch

# launch.py needs a second or more to end the other ranks: what is gone sooner was gone first.
_SAME_MOMENT_S = 0.5
_TAIL_LINES = 15


def outcome(watch: Watch) -> tuple[int, str]:
    """Return the exit code of the attempt and what to say about it."""
    run_dir = watch.options.run_dir
    result = read_result(run_dir)
    if result is not None and result.status == "done":
        return ExitCode.OK, ""
    if watch.feeder is not None and watch.feeder.failed:
        return watch.feeder.code(), watch.feeder.text(_way_out(watch))
    failures = [record for record in read_records(run_dir) if record.status == "failed"]
    # A rank that hangs after the others have saved does not make the checkpoint any less complete.
    deciding = [f for f in failures if f.exit_code != ExitCode.LOST or result is None]
    if result is not None and result.status == "stopped" and not deciding:
        return ExitCode.RESUMABLE, _stopped_text(result)
    first = failures[0] if failures else None
    if first is None or _was_lost_before(watch, first):
        return _lost(watch)
    return _failed(run_dir, first)


def _stopped_text(result: Record) -> str:
    at = "" if result.step is None else f" at step {result.step}"
    return f"stopped{at} with a complete checkpoint; start again with `--resume` to go on"


def _was_lost_before(watch: Watch, first: Record) -> bool:
    """Tell whether a rank died first: the others then fail in a collective, with a message about that."""
    return any(
        number != first.rank and when <= first.time + _SAME_MOMENT_S
        for number, when in watch.lost.items()
    )


def _failed(run_dir: Path, first: Record) -> tuple[int, str]:
    message = first.message or "the training failed"
    rank = f"rank {first.rank}: " if first.rank else ""
    text = UserError(f"{rank}{message}", help=first.help).text()
    log = run_dir / "logs" / f"rank-{first.rank}.log"
    if first.rank and log.exists():
        text += f"\n  log: {log}"
    return first.exit_code or ExitCode.TRAINING, text


def _lost(watch: Watch) -> tuple[int, str]:
    if watch.never_entered and watch.signals.stop:
        return 128 + watch.signals.stop, "stopped before the training began"
    number = min(watch.lost, key=lambda rank: watch.lost[rank]) if watch.lost else None
    text = UserError(_what_happened(watch, number), help=_way_out(watch)).text()
    if number:
        text += _tail(watch.options.run_dir / "logs" / f"rank-{number}.log")
    return ExitCode.LOST, text


def _what_happened(watch: Watch, number: int | None) -> str:
    if watch.signals.end_now:
        return "ended at once as asked, without a new checkpoint"
    if number is not None:
        how = _how_it_ended(watch, watch.ranks[number].pid)
        memory = ": the machine ran out of memory" if watch.out_of_memory else ""
        return f"rank {number} {how}{memory}"
    if watch.timed_out and watch.signals.stop:
        return f"the ranks did not save within {watch.options.grace_s:g} s and were ended"
    if not watch.entered():
        return f"the launcher {ending(watch.launcher_status)} before any rank had started"
    return f"the run ended without a result (the launcher {ending(watch.launcher_status)})"


def _how_it_ended(watch: Watch, pid: int) -> str:
    status = watch.ended.get(pid)
    # The launcher ends with 256 - signal when a signal has ended a rank.
    if status is None and watch.launcher_status is not None and watch.launcher_status > 192:
        status = watch.launcher_status - 256
    return "ended without saying why" if status is None else ending(status)


def _way_out(watch: Watch) -> str:
    if not watch.entered():
        return "the lines above say why"
    newest = newest_committed(watch.options.run_dir / "checkpoints")
    if newest is None:
        return "no checkpoint was complete yet: start again with `--overwrite`"
    return f"`--resume` continues from {newest.path.name}"


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            lines = file.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
    except OSError:
        return ""
    return (
        "".join([f"\n  the end of {path}:", *(f"\n    {line}" for line in lines)]) if lines else ""
    )
