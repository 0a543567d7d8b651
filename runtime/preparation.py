"""Preparing the data, in a process of its own, before the ranks exist."""

from __future__ import annotations

import os
import subprocess
import sys

from .options import Options


def prepare(options: Options) -> int:
    """Run the program that prepares the data, if the run has one; return its exit code.

    A signal ends the supervisor's wait, and the program with it: it leaves nothing half-done.
    """
    if options.prepare is None:
        return 0
    command = [sys.executable, options.prepare]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=env, cwd=options.run_dir, stdin=subprocess.DEVNULL
    ) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise
