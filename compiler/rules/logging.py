"""Trackers, hubs and traces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..spec import OtherTracker, Spec, SwanLab, Tracker, Trackio
from .rule import Rule

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def check_twice(spec: Spec) -> Iterator[Diagnostic]:
    """The same tracker is named twice.

    Trackers keep one run a process, so the second would take the place of the first.

    Fails:
    ```toml
    [logging]
    trackers = [{ type = "wandb", project = "a" }, { type = "wandb", project = "b" }]
    ```
    Passes:
    ```toml
    [logging]
    trackers = [{ type = "wandb" }, { type = "tensorboard" }]
    ```
    """
    seen: dict[str, int] = {}
    for index, tracker in enumerate(spec.logging.trackers):
        name = _name(tracker)
        if name in seen:
            yield error(
                "E120",
                f"the tracker `{name}` is named twice",
                ("logging", "trackers", index),
                label="again here",
                labels=(Label(("logging", "trackers", seen[name]), "first here"),),
                helps=("keep one of the two",),
            )
        seen.setdefault(name, index)


def _name(tracker: Tracker) -> str:
    return tracker.name if isinstance(tracker, OtherTracker) else tracker.type


def check_repository(spec: Spec) -> Iterator[Diagnostic]:
    """A repository or a space on a hub has an owner and a name.

    Fails:
    ```toml
    [hub]
    repository = "my-model"
    ```
    Passes:
    ```toml
    [hub]
    repository = "my-team/my-model"
    ```
    """
    for path, text in _repositories(spec):
        if text is not None and not REPOSITORY.fullmatch(text):
            yield error(
                "E121",
                f"`{path[-1]}` is `{text}`, expected `owner/name`",
                path,
                label="no owner" if "/" not in text else "",
                helps=(
                    "use letters, digits, `-`, `_` and `.`, and one `/` between owner and name",
                ),
            )


def _repositories(spec: Spec) -> Iterator[tuple[SpecPath, str | None]]:
    if spec.hub is not None:
        yield ("hub", "repository"), spec.hub.repository
    yield ("export", "push"), spec.export.push
    for index, tracker in enumerate(spec.logging.trackers):
        if isinstance(tracker, Trackio):
            for name in ("space", "bucket", "static_space"):
                yield ("logging", "trackers", index, name), getattr(tracker, name)


def check_webhook(spec: Spec) -> Iterator[Diagnostic]:
    """A secret is named for a webhook that there is not.

    Fails:
    ```toml
    [logging]
    trackers = [{ type = "swanlab", webhook_secret_env = "LARK_SECRET" }]
    ```
    Passes:
    ```toml
    [logging]
    trackers = [{ type = "swanlab", webhook_env = "LARK_URL", webhook_secret_env = "LARK_SECRET" }]
    ```
    """
    for index, tracker in enumerate(spec.logging.trackers):
        if not isinstance(tracker, SwanLab) or tracker.webhook_env is not None:
            continue
        if tracker.webhook_secret_env is not None:
            yield error(
                "E122",
                "a secret is named for a webhook that there is not",
                ("logging", "trackers", index, "webhook_secret_env"),
                helps=("name the variable with its address as `webhook_env`",),
            )


def check_profiler(spec: Spec) -> Iterator[Diagnostic]:
    """The run ends before the first trace is complete.

    A cycle is the steps left out, those of warm-up and those recorded.

    Fails:
    ```toml
    [profiler]
    wait_steps = 10
    [training]
    steps = 4
    ```
    Passes:
    ```toml
    [profiler]
    wait_steps = 1
    [training]
    steps = 4
    ```
    """
    profiler, steps = spec.profiler, spec.training.steps
    if profiler is None or steps is None:
        return
    cycle = profiler.wait_steps + profiler.warmup_steps + profiler.active_steps
    if cycle > steps:
        yield warning(
            "E123",
            f"a trace takes {cycle:,} steps, the run has {steps:,}",
            ("profiler",),
            labels=(Label(("training", "steps"), "the training ends here"),),
            helps=("wait for fewer steps, or train longer",),
        )


def check_module_times(spec: Spec) -> Iterator[Diagnostic]:
    """Times of modules are measured by events of the GPU.

    Fails:
    ```toml
    [profiler]
    modules = ["layers.*.mlp"]
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [profiler]
    modules = ["layers.*.mlp"]
    [launch]
    device = "gpu"
    ```
    """
    if spec.profiler is not None and spec.profiler.modules and spec.launch.device == "cpu":
        yield warning(
            "E124",
            "times of modules are measured on GPUs only",
            ("profiler", "modules"),
            labels=(Label(("launch", "device"), "computed here"),),
        )


def check_pushed(spec: Spec) -> Iterator[Diagnostic]:
    """Checkpoints are to be pushed, but none is saved before the end.

    Fails:
    ```toml
    [hub]
    repository = "my-team/my-model"
    when = "every-save"
    [checkpoints]
    every_steps = 0
    ```
    Passes:
    ```toml
    [hub]
    repository = "my-team/my-model"
    when = "every-save"
    [checkpoints]
    every_steps = 2
    ```
    """
    saves = spec.checkpoints.every_steps > 0 or spec.checkpoints.each_epoch
    if spec.hub is not None and spec.hub.when != "end" and not saves:
        yield warning(
            "E125",
            f'`when = "{spec.hub.when}"` has no effect: no checkpoint is saved before the end',
            ("hub", "when"),
            labels=(Label(("checkpoints", "every_steps"), "saved at the end only"),),
        )


RULES = (
    Rule("E120", "tracker named twice", pure=check_twice),
    Rule("E121", "no owner and name", pure=check_repository),
    Rule("E122", "secret without a webhook", pure=check_webhook),
    Rule("E123", "trace longer than the run", pure=check_profiler),
    Rule("E124", "times of modules on a CPU", pure=check_module_times),
    Rule("E125", "nothing to push", pure=check_pushed),
)
