"""Shared memory that DeepSpeed leaves behind: a buffer of 64 MiB for each rank on a CPU, which nobody unlinks."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/dev/shm")


def remove_buffers(port: int | str) -> None:
    """Remove the buffers of the run whose processes met on `port` of this machine, when all of them have ended.

    They would fill the memory of the machine, 64 MiB a rank and run (DeepSpeed 0.19.8, `csrc/cpu/comm/shm.cpp`).
    """
    for path in FOLDER.glob(f"deepspeed_allreduce_buffer_{os.getuid()}_*_{port}_*"):
        with suppress(OSError):
            path.unlink()
