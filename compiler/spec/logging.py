"""`[logging]`, `[hub]` and `[profiler]`: what a run tells, and to whom."""

from __future__ import annotations

from typing import Literal

from .kinds import section


@section
class TensorBoard:
    """TensorBoard."""

    type: Literal["tensorboard"]
    """`tensorboard`: event files."""

    dir: str | None = None
    """Folder of the event files, relative to the spec. Default: inside the run folder."""


@section
class Wandb:
    """Weights & Biases."""

    type: Literal["wandb"]
    """`wandb`: Weights & Biases."""

    project: str = "tunec"
    """Project."""

    entity: str | None = None
    """User or team."""

    mode: Literal["online", "offline"] = "online"
    """Send at once, or keep for later."""

    key_env: str = "WANDB_API_KEY"
    """Name of the environment variable with the key."""


@section
class SwanLab:
    """SwanLab."""

    type: Literal["swanlab"]
    """`swanlab`: SwanLab."""

    project: str = "tunec"
    """Project."""

    workspace: str | None = None
    """Workspace."""

    run_name: str | None = None
    """Name of the experiment. Default: `run.name`."""

    mode: Literal["cloud", "local"] = "cloud"
    """Send, or keep here."""

    key_env: str = "SWANLAB_API_KEY"
    """Name of the environment variable with the key."""

    dir: str | None = None
    """Folder of local logs, relative to the spec."""

    webhook_env: str | None = None
    """Name of the environment variable with the address of a Lark webhook, told when the run ends."""

    webhook_secret_env: str | None = None
    """Name of the environment variable with the webhook's secret."""


@section
class Trackio:
    """Trackio."""

    type: Literal["trackio"]
    """`trackio`: Trackio."""

    project: str = "tunec"
    """Project."""

    space: str | None = None
    """Space that shows the run, as `owner/name`."""

    bucket: str | None = None
    """Bucket that keeps the data."""

    static_space: str | None = None
    """Static space made when the run ends."""


@section
class Mlflow:
    """MLflow."""

    type: Literal["mlflow"]
    """`mlflow`: MLflow."""

    uri_env: str = "MLFLOW_TRACKING_URI"
    """Name of the environment variable with the server's address."""

    experiment: str = "tunec"
    """Experiment."""


@section
class OtherTracker:
    """Another tracker that transformers knows by name."""

    type: Literal["transformers"]
    """`transformers`: a tracker by its name in transformers."""

    name: Literal[
        "aim", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "neptune"
    ]
    """Its name."""


Tracker = TensorBoard | Wandb | SwanLab | Trackio | Mlflow | OtherTracker


@section
class Logging:
    """Numbers and pictures."""

    every_steps: int = 10
    """Write a line of metrics each time this many steps are done."""

    first_step: bool = False
    """Write one for the first step as well."""

    each_epoch: bool = False
    """Write one at the end of each epoch as well."""

    plot: bool = True
    """Draw the loss and what else is measured as PNG at the end."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What the first process says."""

    progress_bar: bool = True
    """Show a progress bar on a terminal."""

    parameters: bool = False
    """Print every parameter with dtype, device, and whether it is trained."""

    trackers: tuple[Tracker, ...] = ()
    """Where numbers are sent beside the run folder."""


@section
class Push:
    """Sending the result to a model hub."""

    repository: str
    """The repository, as `owner/name`."""

    token_env: str = "HF_TOKEN"
    """Name of the environment variable with the token."""

    private: bool = True
    """Make a new repository private."""

    when: Literal["end", "checkpoint", "every-save", "all-checkpoints"] = "end"
    """What is pushed: the final weights, or checkpoints too."""

    revision: str | None = None
    """Branch to push to."""

    wait: bool = True
    """Wait for a running push instead of leaving one out."""


@section
class Profiler:
    """Traces of `torch.profiler`. The section's presence switches it on."""

    output_dir: str | None = None
    """Folder of the traces, relative to the spec. Default: `profiler` in the run folder."""

    wait_steps: int = 1
    """Steps left out at the start of a cycle."""

    warmup_steps: int = 1
    """Steps of warm-up in a cycle."""

    active_steps: int = 1
    """Steps recorded in a cycle."""

    repeat: int = 1
    """Cycles; 0 repeats to the end."""

    shapes: bool = True
    """Record the shapes of tensors."""

    memory: bool = True
    """Record memory."""

    stacks: bool = True
    """Record where calls come from."""

    modules: tuple[str, ...] = ()
    """Patterns of module names whose time is logged."""
