"""Rules about schedules, precision, ZeRO, engines, machines and results: combinations and wording."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunec.compiler.diagnostics import Diagnostic

Find = Callable[..., tuple[Diagnostic, ...]]

GPU = '[launch]\ndevice = "gpu"\n'
CLUSTER = (
    '[launch]\ntype = "kubernetes"\nimage = "a/b:1"\nprocesses_per_node = 1\nvolume_claim = "d"\n'
)
SLURM = '[launch]\ntype = "slurm"\nprocesses_per_node = 1\n'
ONE_EACH = "[batch]\nmicro_size = 1\naccumulation_steps = 1\n"


def of(findings: tuple[Diagnostic, ...], code: str) -> list[Diagnostic]:
    """Return the findings with a code."""
    return [item for item in findings if item.code == code]


WORDINGS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "schedule": (
        '[training]\nschedule = "linear"\nmin_rate_ratio = 0.1\n',
        "R807",
        "`min_rate_ratio` does not belong to the schedule `linear`",
        ("it belongs to `cosine-min` and `warmup-stable-decay`",),
    ),
    "decay": (
        '[training]\nsteps = 10\nschedule = "warmup-stable-decay"\nwarmup_steps = 4\nstable_steps = 8\n',
        "R813",
        "4 steps of warm-up and 8 at the peak leave none of 10 to decay in",
        ("use fewer than 6",),
    ),
    "quantized fp8": (
        '[training]\nprecision = "fp8"\n[quantization]\ntype = "bitsandbytes"\n' + GPU,
        "R840",
        "fp8 does not go with quantized weights",
        ('write `precision = "bf16"`',),
    ),
    "copies of weights": (
        '[training]\nprecision = "bf16"\n[deepspeed]\nzero_stage = 0\n[optimizer]\n'
        'type = "transformers"\nname = "schedule_free_adamw"\n' + GPU,
        "R842",
        "`schedule_free_adamw` needs the weights themselves, `bf16` trains fp32 copies of them",
        ('write `precision = "pure-bf16"` or `"fp32"`',),
    ),
    "optimizer to nvme": (
        '[deepspeed]\nzero_stage = 2\noffload_optimizer = "nvme"\nnvme_dir = "/nvme"\n' + GPU,
        "R822",
        '`offload_optimizer = "nvme"` needs ZeRO stage 3',
        ("set `zero_stage` to 3",),
    ),
    "partition": (
        "[deepspeed]\nzero_stage = 3\nhpz_partition_size = 3\n[launch]\nprocesses = 4\n" + ONE_EACH,
        "R824",
        "4 processes do not divide into groups of 3",
        ("the number of processes on a machine is the usual choice",),
    ),
    "copies": (
        "[megatron]\ntensor_parallel = 2\npipeline_parallel = 3\n"
        '[launch]\nprocesses = 8\ndevice = "gpu"\n' + ONE_EACH,
        "L125",
        "one copy of the model takes 2 x 3 = 6 processes, and 8 are no multiple of that",
        ("start a multiple of 6 processes, or share the model out less",),
    ),
    "one process": (
        "[hyper_parallel]\ncontext_parallel = 2\n" + GPU,
        "L125",
        "one copy of the model takes 2 processes, and 1 is no multiple of that",
        ("start a multiple of 2 processes, or share the model out less",),
    ),
    "time": (
        SLURM + 'time = "1 day"\n',
        "L101",
        "`1 day` is no time limit of Slurm",
        ("write `hours:minutes:seconds`, such as `12:00:00`, or `1-00:00:00` for a day",),
    ),
    "host file": (
        '[launch]\ntype = "hostfile"\npath = "none"\nprocesses_per_node = 1\n',
        "L106",
        "there is no host file `none`",
        (),
    ),
    "few hosts": (
        '[launch]\ntype = "hostfile"\npath = "hosts"\nnodes = 3\nprocesses_per_node = 1\n',
        "L106",
        "`hosts` names 2 machines, the run needs 3",
        (),
    ),
    "few slots": (
        '[launch]\ntype = "hostfile"\npath = "hosts"\nprocesses_per_node = 9\n' + ONE_EACH,
        "L106",
        "`a` and `b` of `hosts` have fewer slots than 9 processes",
        (),
    ),
    "accelerators": (
        '[launch]\ntype = "skypilot"\naccelerators = "A100:4"\n' + ONE_EACH,
        "L107",
        "a machine has 4 accelerators and 8 processes",
        ("set `processes_per_node` to 4, or change the accelerators",),
    ),
    "reserved": (
        CLUSTER + 'secrets = { PET_NNODES = "a/b" }\n',
        "L104",
        "`PET_NNODES` is set by the launcher",
        (),
    ),
    "checkpoint": (
        '[run]\nresume_from = "runs/first/checkpoints/4"\non_existing = "overwrite"\n',
        "F304",
        "there is no checkpoint `runs/first/checkpoints/4`",
        (),
    ),
    "adapter rank": (
        '[method]\nrank = 64\n[inference]\ntype = "vllm"\n',
        "I103",
        "the adapter has rank 64, `vllm` holds room for 32",
        ("set `max_adapter_rank` to 64 or more",),
    ),
    "other adapter": (
        '[method]\ntype = "oft"\n[inference]\ntype = "sglang"\n',
        "I103",
        "`sglang` cannot put an adapter of `oft` on the model",
        ('use `type = "transformers"`, or serve the exported model',),
    ),
}


@pytest.mark.parametrize("case", WORDINGS)
def test_wording(case: str, found: Find) -> None:
    """The findings about training and machines say the cause with its numbers, and the way out in the help."""
    text, code, message, helps = WORDINGS[case]
    first = of(found(text), code)[0]
    assert (first.message, first.helps) == (message, helps)


@pytest.mark.parametrize(
    ("time", "is_time"),
    [
        *((time, True) for time in ("30", "30:00", "12:00:00", "1-00", "1-12:30", "7-00:00:00")),
        *((time, False) for time in ("12h", "1:2:3:4", "-1", "1-", "12:60", "one", " 30", "3٣")),
    ],
)
def test_time_limits_of_slurm(time: str, is_time: bool, found: Find) -> None:
    """What Slurm reads is accepted, and nothing else."""
    assert bool(of(found(f'{SLURM}time = "{time}"\n'), "L101")) is not is_time


@pytest.mark.parametrize(
    ("image", "is_image"),
    [
        ("python", True),
        ("registry.example:5000/team/train:2.1-cuda", True),
        ("ghcr.io/a/b@sha256:" + "0" * 64, True),
        ("Train", False),
        ("a/b:", False),
        ("a b", False),
        ("-x", False),
    ],
)
def test_container_images(image: str, is_image: bool, found: Find) -> None:
    """An image has a lower-case name, and a tag or a digest where one is given."""
    text = CLUSTER.replace("a/b:1", image)
    assert bool(of(found(text), "L103")) is not is_image


@pytest.mark.parametrize("name", ["a b", "-p", "a;b", "$(x)", "a\\nb", "ü"])
def test_names_for_slurm_are_plain(name: str, found: Find) -> None:
    """Whatever could end a line of the script's header, or begin an option, is refused."""
    codes = {item.code for item in found(f'{SLURM}partition = "{name}"\n')}
    assert codes & {"L102", "T212"}


def test_a_checkpoint_in_the_run_folder_is_not_overwritten(folder: Path, found: Find) -> None:
    """To go on from a checkpoint and to empty its folder first contradict each other."""
    (folder / "runs" / "old" / "checkpoint-4").mkdir(parents=True, exist_ok=True)
    text = '[run]\noutput_dir = "runs/old"\nresume_from = "runs/old/checkpoint-4"\n'
    assert not of(found(text), "F304")
    (finding,) = of(found(f'{text}on_existing = "overwrite"\n'), "F304")
    assert finding.message == "`runs/old/checkpoint-4` would be deleted before the run begins"


@pytest.mark.parametrize(
    ("method", "engine", "is_fine"),
    [
        ("full", "megatron", True),
        ("lora", "megatron", True),
        ("oft", "megatron", False),
        ("full", "hyper_parallel", True),
        ("lora", "hyper_parallel", False),
    ],
)
def test_methods_of_engines(method: str, engine: str, is_fine: bool, found: Find) -> None:
    """Megatron trains fully and by LoRA, HyperParallel fully."""
    findings = found(f'[{engine}]\n[method]\ntype = "{method}"\n{GPU}')
    assert bool(of(findings, "L122")) is not is_fine
