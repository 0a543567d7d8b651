"""How many processes a launch starts."""

from __future__ import annotations

from ..diagnostics import SpecPath
from ..spec import Launch, Local


def num_processes(launch: Launch) -> int:
    """Return the number of processes over all machines."""
    if isinstance(launch, Local):
        return launch.processes
    return launch.nodes * launch.processes_per_node


def processes_path(launch: Launch) -> SpecPath:
    """Return the setting that says so, for a label."""
    return ("launch", "processes" if isinstance(launch, Local) else "processes_per_node")
