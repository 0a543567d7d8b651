"""Start a run's launcher, watch over its ranks, and end with an exit code that can be trusted.

    python -m tunec.runtime.supervisor --run-dir DIR --processes N --device cpu -- COMMAND...

Neither DeepSpeed's launcher nor its exit code can be relied on: it hands signals on to one rank after the
other, or to none; it ends with 0 when its node process is killed; it leaves ranks behind. So this process
signals the ranks itself, inherits every orphan, ends whatever is left, and takes the exit code from what
rank 0 wrote in `result.json` during this attempt.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .errors import ExitCode, UserError
from .existing import checkpoint_to_resume, inspect, is_finished, refuse_living_ranks
from .extensions import ensure_built
from .feeding import Feeder, start_feeder
from .launcher import child_environment, launcher_command, start_launcher
from .options import Options, parse, say
from .outcome import outcome
from .preflight import bind_port, preflight
from .preparation import prepare
from .processes import end_descendants, oom_kills
from .rank import prctl
from .run_folder import check_manifest, clear, delete, locked
from .shared_memory import remove_buffers
from .watch import InterruptedEarlyError, Signals, Watch

_POLL_S = 0.1
_PR_SET_CHILD_SUBREAPER = 36


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns an exit code of `ExitCode`, or 128 + signal before any rank began."""
    options = parse(sys.argv[1:] if argv is None else argv)
    signals = Signals()
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        signals.install()
        return supervise(options, signals)
    except UserError as error:
        say(error.text())
        return error.code
    except InterruptedEarlyError as error:
        say("interrupted before the training began")
        return 128 + error.number
    except Exception:
        say(traceback.format_exc().rstrip())
        say("error: this is a defect of tunec's supervisor, see above")
        return ExitCode.INTERNAL
    finally:
        signals.starting = False
        end_descendants()


def supervise(options: Options, signals: Signals) -> int:
    """Check everything, run one attempt, and return its exit code.

    Raises:
        UserError: what keeps the run from starting (codes USAGE, CONFLICT, ENVIRONMENT, CHECKPOINT).
    """
    with locked(options.run_dir):
        refuse_living_ranks(options.run_dir)
        if not options.allow_edited:
            check_manifest(options.run_dir)
        earlier = inspect(options.run_dir, deep=options.on_existing == "resume")
        if is_finished(options, earlier):
            return ExitCode.OK
        resume_from = checkpoint_to_resume(options, earlier)
        devices = preflight(options)
        ensure_built(options.extensions, device=options.device, say=say)
        clear(options)
        code = prepare(options)
        if code != ExitCode.OK:
            return code
        feeder = start_feeder(options, resume_from)
        if feeder is not None and feeder.failed:
            if feeder.code() == ExitCode.LOST:
                say(feeder.text("then start again"))
            return feeder.code()
        return _attempt(options, signals, resume_from, devices, feeder)


def _attempt(
    options: Options,
    signals: Signals,
    resume_from: Path | None,
    gpus: tuple[str, ...] | None,
    feeder: Feeder | None,
) -> int:
    port = options.port or bind_port(0)
    command = launcher_command(options.command, port, gpus)
    env = child_environment(options, port=port, resume_from=resume_from, gpus=gpus)
    killed_before = oom_kills()
    signals.starting = False
    pid = start_launcher(command, env, options.run_dir)
    watch = Watch(options, signals, pid, feeder)
    try:
        while watch.step():
            time.sleep(_POLL_S)
    finally:
        if feeder is not None:
            feeder.end()
        end_descendants(watch.note_end)
        remove_buffers(port)
    watch.out_of_memory = oom_kills() > killed_before
    code, text = outcome(watch)
    delete(options.run_dir / "pids")
    if text:
        say(text)
    return code


def _exit(code: int) -> NoReturn:
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    sys.exit(code)


if __name__ == "__main__":
    _exit(main())
