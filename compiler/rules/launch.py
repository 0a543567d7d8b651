"""Where a run happens: names that Slurm, Kubernetes and clouds take."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..diagnostics import Diagnostic, SpecPath, error, warning
from ..spec import Kubernetes, Ray, SkyPilot, Slurm, Spec
from .rule import Rule

TIME = re.compile(r"(?:\d+-)?\d{1,3}(?::[0-5]?\d){0,2}", re.ASCII)
WORD = re.compile(r"[A-Za-z0-9][\w.,:@+-]*", re.ASCII)
MODULE = re.compile(r"[A-Za-z0-9][\w.:@+/-]*", re.ASCII)
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
KEY = re.compile(r"[A-Za-z0-9._-]{1,253}", re.ASCII)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
IMAGE = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::[\w.-]{1,128})?(?:@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
RESERVED = frozenset(
    {
        *(
            "PET_NNODES",
            "PET_NPROC_PER_NODE",
            "PET_NODE_RANK",
            "PET_MASTER_ADDR",
            "PET_MASTER_PORT",
        ),
        *("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
        *("NODE_RANK", "CUDA_VISIBLE_DEVICES", "PATH", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH"),
    }
)
"""Variables that the cluster, the launcher or the machine sets."""


def check_time(spec: Spec) -> Iterator[Diagnostic]:
    """The time limit is none that Slurm knows.

    Slurm reads minutes, `minutes:seconds`, `hours:minutes:seconds`, and the same after `days-`.

    Fails:
    ```toml
    [launch]
    type = "slurm"
    processes_per_node = 1
    time = "12h"
    ```
    Passes:
    ```toml
    [launch]
    type = "slurm"
    processes_per_node = 1
    time = "12:00:00"
    ```
    """
    time = spec.launch.time if isinstance(spec.launch, Slurm) else None
    if time is not None and not TIME.fullmatch(time):
        yield error(
            "L101",
            f"`{time}` is no time limit of Slurm",
            ("launch", "time"),
            helps=("write `hours:minutes:seconds`, such as `12:00:00`, or `1-00:00:00` for a day",),
        )


def check_words(spec: Spec) -> Iterator[Diagnostic]:
    """A name holds characters that no cluster takes.

    It stands in the header of a script or in a file for the cluster; a blank would end it.

    Fails:
    ```toml
    [launch]
    type = "slurm"
    processes_per_node = 1
    partition = "gpu long"
    ```
    Passes:
    ```toml
    [launch]
    type = "slurm"
    processes_per_node = 1
    partition = "gpu-long"
    ```
    """
    for path, text in _words(spec):
        pattern = MODULE if "modules" in path else WORD
        if text is not None and not pattern.fullmatch(text):
            yield error(
                "L102",
                f"`{text}` cannot be a name here",
                path,
                helps=("use letters, digits, `-`, `_` and `.`",),
            )


def _words(spec: Spec) -> Iterator[tuple[SpecPath, str | None]]:
    launch = spec.launch
    names: tuple[str, ...] = ()
    if isinstance(launch, Slurm):
        names = ("partition", "account", "qos")
        for index, module in enumerate(launch.modules):
            yield ("launch", "modules", index), module
    elif isinstance(launch, SkyPilot):
        names = ("cloud", "region")
    elif isinstance(launch, Ray):
        names = ("master_address",)
    for name in names:
        yield ("launch", name), getattr(launch, name)


def check_objects(spec: Spec) -> Iterator[Diagnostic]:
    """A name is none that Kubernetes takes.

    Namespaces, runtimes, claims and queues are named by lower-case letters, digits and `-`, at most 63 of them
    (RFC 1123); images and mount points have forms of their own.

    Fails:
    ```toml
    [launch]
    type = "kubernetes"
    image = "registry.example/train:1"
    processes_per_node = 1
    volume_claim = "data"
    namespace = "My_Team"
    ```
    Passes:
    ```toml
    [launch]
    type = "kubernetes"
    image = "registry.example/train:1"
    processes_per_node = 1
    volume_claim = "data"
    namespace = "my-team"
    ```
    """
    if not isinstance(spec.launch, Kubernetes):
        return
    for name in ("namespace", "runtime", "volume_claim", "queue"):
        text = getattr(spec.launch, name)
        if text is not None and not LABEL.fullmatch(text):
            yield error(
                "L103",
                f"`{text}` is no name that Kubernetes takes",
                ("launch", name),
                helps=("use lower-case letters, digits and `-`, at most 63 of them",),
            )
    if not IMAGE.fullmatch(spec.launch.image):
        yield error("L103", f"`{spec.launch.image}` is no container image", ("launch", "image"))
    if not spec.launch.mount_path.startswith("/"):
        yield error(
            "L103",
            f"`{spec.launch.mount_path}` is no absolute path",
            ("launch", "mount_path"),
            helps=("begin it with `/`",),
        )


def check_secrets(spec: Spec) -> Iterator[Diagnostic]:
    """A secret is not named as `secret/key`, or its variable is taken.

    The table names, for each environment variable, a secret of the cluster and the key in it; never the secret
    itself. Variables that the launcher sets cannot be set by hand.

    Fails:
    ```toml
    [launch]
    type = "kubernetes"
    image = "registry.example/train:1"
    processes_per_node = 1
    volume_claim = "data"
    secrets = { HF_TOKEN = "hub" }
    ```
    Passes:
    ```toml
    [launch]
    type = "kubernetes"
    image = "registry.example/train:1"
    processes_per_node = 1
    volume_claim = "data"
    secrets = { HF_TOKEN = "hub/token" }
    ```
    """
    if not isinstance(spec.launch, Kubernetes):
        return
    for name, text in spec.launch.secrets.items():
        path: SpecPath = ("launch", "secrets", name)
        secret, separator, key = text.partition("/")
        if not separator or not LABEL.fullmatch(secret) or not KEY.fullmatch(key):
            # What stands there may be the secret itself, so it is not shown.
            yield error(
                "L104",
                f"the secret for `{name}` is not named as `secret/key`",
                path,
                helps=(
                    f'write the name of the secret and its key, such as `{name} = "hub/token"`',
                ),
            )
        if name in RESERVED or not VARIABLE.fullmatch(name):
            reason = "is set by the launcher" if name in RESERVED else "is no name of a variable"
            yield error("L104", f"`{name}` {reason}", path)


def check_volume(spec: Spec) -> Iterator[Diagnostic]:
    """The run folder of a Kubernetes job is gone with its pods.

    Fails:
    ```toml
    [launch]
    type = "kubernetes"
    image = "registry.example/train:1"
    processes_per_node = 1
    ```
    Passes:
    ```toml
    [launch]
    type = "kubernetes"
    image = "registry.example/train:1"
    processes_per_node = 1
    volume_claim = "data"
    ```
    """
    if isinstance(spec.launch, Kubernetes) and spec.launch.volume_claim is None:
        yield warning(
            "L105",
            "the run folder is gone with the pods of the job",
            ("launch", "type"),
            helps=("name a claim of a shared volume as `volume_claim`",),
        )


RULES = (
    Rule("L101", "no time limit", pure=check_time),
    Rule("L102", "no name for a cluster", pure=check_words),
    Rule("L103", "no name of an object", pure=check_objects),
    Rule("L104", "secret not named", pure=check_secrets),
    Rule("L105", "run folder without a volume", pure=check_volume),
)
