"""`[launch]`: where the run happens."""

from __future__ import annotations

from typing import Literal

from attrs import field

from .kinds import Scalar, section


@section
class Local:
    """This machine, through the DeepSpeed launcher."""

    type: Literal["local"] = "local"
    """`local`: processes on the machine that runs `launch.sh`."""

    processes: int = 1
    """Processes: one a GPU, or any number on a CPU."""

    device: Literal["gpu", "cpu"] = "gpu"
    """What computes."""

    memory_gib: float | None = None
    """Memory of one device, in GiB, to compare the expected need with. Default: not compared."""

    port: int | None = None
    """Port on which the processes meet. Default: a free one, chosen at start."""

    grace_s: int = 120
    """Seconds a stopped run (Ctrl-C, SIGTERM) may take to finish its step and save."""


@section
class _Nodes:
    """What every target with several machines can be told."""

    nodes: int = 1
    """Machines."""

    processes_per_node: int = 8
    """Processes on each of them, one a GPU."""

    device: Literal["gpu", "cpu"] = "gpu"
    """What computes."""

    memory_gib: float | None = None
    """Memory of one device, in GiB, to compare the expected need with. Default: not compared."""

    port: int | None = None
    """Port on which the processes meet. Default: chosen from the job's number."""

    grace_s: int = 120
    """Seconds a stopped run may take to finish its step and save."""

    max_restarts: int = 0
    """Times the run is started again after a failure."""


@section
class HostFile(_Nodes):
    """Machines named in a file, reached by ssh."""

    type: Literal["hostfile"]
    """`hostfile`: machines listed in a DeepSpeed host file."""

    path: str
    """The file, relative to the spec: `name slots=N` a line."""

    ssh_port: int = 22
    """Port of ssh."""


@section
class Slurm(_Nodes):
    """A Slurm cluster."""

    type: Literal["slurm"]
    """`slurm`: a batch script for `sbatch`."""

    partition: str | None = None
    """Partition. Default: the cluster's."""

    account: str | None = None
    """Account that is charged."""

    qos: str | None = None
    """Quality of service."""

    time: str | None = None
    """Time limit, such as `12:00:00` or `1-00:00:00`."""

    cpus_per_process: int = 8
    """Cores a process."""

    requeue: bool = True
    """Start again where the run stopped, after preemption or at the time limit."""

    container: str | None = None
    """Container image (pyxis)."""

    modules: tuple[str, ...] = ()
    """Environment modules to load."""

    exclusive: bool = True
    """Take whole machines."""


@section
class Kubernetes(_Nodes):
    """A Kubernetes cluster with Kubeflow Trainer."""

    type: Literal["kubernetes"]
    """`kubernetes`: a TrainJob for `kubectl apply`."""

    image: str
    """Container image, best named by its digest."""

    namespace: str = "default"
    """Namespace."""

    runtime: str = "torch-distributed"
    """Training runtime of the cluster."""

    volume_claim: str | None = None
    """Claim of a shared volume for run folder and data."""

    mount_path: str = "/workspace"
    """Where it is mounted."""

    queue: str | None = None
    """Kueue queue."""

    secrets: dict[str, str] = field(factory=dict)
    """Environment variables from secrets: name of the variable to `secret/key`."""


@section
class Ray(_Nodes):
    """A Ray cluster."""

    type: Literal["ray"]
    """`ray`: workers of Ray Train."""

    address: str | None = None
    """Address of the cluster. Default: the one Ray finds."""

    master_address: str | None = None
    """Address on which the processes meet. Default: that of the first worker."""

    init: dict[str, Scalar] = field(factory=dict)
    """Options for `ray.init`."""


@section
class SkyPilot(_Nodes):
    """Machines of a cloud, by SkyPilot."""

    type: Literal["skypilot"]
    """`skypilot`: a task for `sky jobs launch`."""

    accelerators: str
    """Accelerators of a machine, such as `H100:8`."""

    cloud: str | None = None
    """Cloud. Default: the cheapest that has them."""

    region: str | None = None
    """Region."""

    spot: bool = False
    """Use machines that may be taken away; the run resumes elsewhere."""

    bucket: str | None = None
    """Bucket for the run folder."""


Launch = Local | HostFile | Slurm | Kubernetes | Ray | SkyPilot
