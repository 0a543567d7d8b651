"""Machines: as many as the run needs, with as many accelerators."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, Place, SpecPath, error
from ..facts import Facts
from ..spec import HostFile, SkyPilot, Spec
from .look import listed
from .rule import Rule

ACCELERATORS = re.compile(r"([A-Za-z][\w.-]*)(?::(\d{1,4}))?", re.ASCII)


def check_hosts(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The host file cannot be used, or names fewer machines than the run needs.

    DeepSpeed runs on the local machine alone when the file is missing, and says so in one line of its log.

    Fails:
    ```toml
    [launch]
    type = "hostfile"
    path = "bad-hosts"
    processes_per_node = 1
    ```
    Passes:
    ```toml
    [launch]
    type = "hostfile"
    path = "hosts"
    processes_per_node = 1
    ```
    """
    launch, hosts = spec.launch, facts.hosts
    if not isinstance(launch, HostFile) or hosts is None:
        return
    path: SpecPath = ("launch", "path")
    if hosts.state == "missing":
        yield error("L106", f"there is no host file `{launch.path}`", path)
    elif hosts.state == "unreadable":
        yield error("L106", f"`{launch.path}` cannot be read: {hosts.problem}", path)
    elif hosts.bad_line:
        yield error(
            "L106",
            f"line {hosts.bad_line} of `{launch.path}`: {hosts.problem}",
            path,
            place=Place(facts.base / launch.path, hosts.bad_line, 1),
        )
    elif len(hosts.slots) < launch.nodes:
        yield error(
            "L106",
            f"`{launch.path}` names {len(hosts.slots)} machines, the run needs {launch.nodes}",
            path,
            labels=(Label(("launch", "nodes"), "machines"),),
        )
    else:
        small = [name for name, slots in hosts.slots.items() if slots < launch.processes_per_node]
        if small:
            yield error(
                "L106",
                f"{listed(small[:5])} of `{launch.path}` {'have' if len(small) > 1 else 'has'} fewer slots than "
                f"{launch.processes_per_node} processes",
                path,
                labels=(Label(("launch", "processes_per_node"), "processes"),),
            )


def check_accelerators(spec: Spec) -> Iterator[Diagnostic]:
    """The accelerators are not named, or are not as many as the processes of a machine.

    Fails:
    ```toml
    [launch]
    type = "skypilot"
    accelerators = "8xH100"
    processes_per_node = 8
    [batch]
    micro_size = 1
    accumulation_steps = 1
    ```
    Passes:
    ```toml
    [launch]
    type = "skypilot"
    accelerators = "H100:8"
    processes_per_node = 8
    [batch]
    micro_size = 1
    accumulation_steps = 1
    ```
    """
    if not isinstance(spec.launch, SkyPilot):
        return
    path: SpecPath = ("launch", "accelerators")
    found = ACCELERATORS.fullmatch(spec.launch.accelerators)
    if found is None:
        yield error(
            "L107",
            f"`{spec.launch.accelerators}` names no accelerators",
            path,
            helps=("write their name and number, such as `H100:8`",),
        )
    elif int(found[2] or 1) != spec.launch.processes_per_node and spec.launch.device == "gpu":
        count = int(found[2] or 1)
        yield error(
            "L107",
            f"a machine has {count} {'accelerator' if count == 1 else 'accelerators'} "
            f"and {spec.launch.processes_per_node} processes",
            path,
            labels=(Label(("launch", "processes_per_node"), "one process an accelerator"),),
            helps=(f"set `processes_per_node` to {count}, or change the accelerators",),
        )


RULES = (
    Rule("L106", "host file unusable", factual=check_hosts),
    Rule("L107", "accelerators not named", pure=check_accelerators),
)
