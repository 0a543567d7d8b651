"""This machine: `launch.sh` starts the supervisor, which starts the DeepSpeed launcher.

A single process needs no launcher, whose own imports would only keep it waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..plan import Plan
from ..plan.honoured import only
from ..render.environment import render as render_template
from ..spec import Local
from ..version import VERSION

GIB = 2**30


def render(plan: Plan) -> dict[str, str]:
    """Return `launch.sh`."""
    launch = only(plan.spec.launch, Local)
    options = [
        ("--processes", str(launch.processes)),
        ("--device", launch.device),
        ("--grace-s", str(launch.grace_s)),
    ]
    if launch.port is not None:
        options.append(("--port", str(launch.port)))
    if plan.spec.run.on_existing != "refuse":
        options.append(("--on-existing", plan.spec.run.on_existing))
    if (need := _disk_gib(plan)) is not None:
        options.append(("--need-gib", need))
    options.append(("--feed" if plan.spec.data.streaming else "--prepare", "prepare.py"))
    options += [("--extension", name) for name in _extensions(plan)]
    text = render_template(
        "launch/local.sh.jinja",
        version=VERSION,
        spec_name=plan.spec_name,
        options=options,
        processes=str(launch.processes),
    )
    return {"launch.sh": text}


def command(run_dir: Path, arguments: Sequence[str]) -> list[str]:
    """Return the command that starts a compiled run."""
    return [str(run_dir / "launch.sh"), *arguments]


def _disk_gib(plan: Plan) -> str | None:
    """Room for the checkpoints kept, the one being written, and the final weights."""
    if plan.memory is None:
        return None
    # All checkpoints are kept for `keep = 0`: how many there will be is not reserved, only the next two.
    saves = plan.memory.checkpoint * ((plan.spec.checkpoints.keep or 1) + 1)
    return f"{(saves + plan.memory.final) / GIB:.2f}"


def _extensions(plan: Plan) -> list[str]:
    """DeepSpeed's compiled parts that this run needs, built before its first start."""
    names = ["shm_comm"] if plan.spec.launch.device == "cpu" else []
    offloads = plan.spec.deepspeed.offload_optimizer == "cpu"
    return [*names, "cpu_adam"] if offloads else names
