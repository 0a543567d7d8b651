"""`[launch]`: where the run happens."""

from __future__ import annotations

from typing import Literal

from attrs import frozen


@frozen(kw_only=True)
class Local:
    """This machine, through the DeepSpeed launcher."""

    type: Literal["local"] = "local"
    """`local`: processes on the machine that runs `launch.sh`."""

    processes: int = 1
    """Processes: one a GPU, or any number on a CPU."""

    device: Literal["gpu", "cpu"] = "gpu"
    """What computes."""

    port: int | None = None
    """Port on which the processes meet. Default: a free one, chosen at start."""

    grace_s: int = 120
    """Seconds a stopped run (Ctrl-C, SIGTERM) may take to finish its step and save."""


Launch = Local
