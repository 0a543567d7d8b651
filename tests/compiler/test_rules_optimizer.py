"""Rules about optimizers: what they can train, where their state can lie, and what they are called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunec.compiler.diagnostics import Diagnostic, Level
from tunec.compiler.rules.optimizer_names import OWN_KINDS, TRANSFORMERS, UNUSABLE

Told = Callable[..., list[Diagnostic]]

FULL = '[method]\ntype = "full"\n'
WHOLE = "[deepspeed]\nzero_stage = 0\n"
TWO = '[launch]\nprocesses = 2\ndevice = "cpu"\n'

WORDINGS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "projections for adapters": (
        WHOLE + '[optimizer]\ntype = "apollo"\n',
        "U801",
        "`apollo` is for training a model's own weights",
        ('write `[method] type = "full"`, or `[optimizer] type = "adamw"`',),
    ),
    "muon on adapters": (
        WHOLE + '[optimizer]\ntype = "muon"\n',
        "U802",
        "`muon` is made for the weights of a model, not for adapters",
        ('write `[optimizer] type = "adamw"`',),
    ),
    "projections of slices": (
        FULL + '[optimizer]\ntype = "galore"\n[deepspeed]\nzero_stage = 1\n',
        "U803",
        "`galore` projects matrices, ZeRO stage 1 cuts them into flat slices",
        ("write `zero_stage = 0`",),
    ),
    "layerwise on two processes": (
        FULL + WHOLE + TWO + '[optimizer]\ntype = "galore"\nlayerwise = true\n'
        "[batch]\nmicro_size = 2\naccumulation_steps = 1\n[training]\nmax_grad_norm = 0.0\n",
        "U804",
        "layerwise updates need a single process, there are 2",
        ("remove `layerwise`, or start one process",),
    ),
    "layerwise in two passes": (
        FULL + WHOLE + '[optimizer]\ntype = "apollo"\nlayerwise = true\n'
        "[batch]\nglobal_size = 4\nmicro_size = 2\n[training]\nmax_grad_norm = 0.0\n",
        "U804",
        "layerwise updates leave no gradients to add up over 2 passes",
        ("remove `layerwise`, or write `accumulation_steps = 1`",),
    ),
    "layerwise and clipped": (
        FULL + WHOLE + '[optimizer]\ntype = "galore"\nlayerwise = true\n'
        "[batch]\nmicro_size = 2\naccumulation_steps = 1\n",
        "U804",
        "layerwise updates leave no gradients to clip: their norm is known after the last of them",
        ("write `max_grad_norm = 0.0`, or remove `layerwise`",),
    ),
    "slices of matrices": (
        FULL + '[optimizer]\ntype = "adam-mini"\n[deepspeed]\nzero_stage = 2\n',
        "U803",
        "`adam-mini` needs whole parameters, ZeRO stage 2 cuts them into flat slices",
        ("write `zero_stage = 0`, or use `adamw`, whose state is sharded",),
    ),
    "around the engine": (
        FULL + '[optimizer]\ntype = "transformers"\nname = "adalomo"\n',
        "U812",
        "`adalomo` updates weights in a backward pass of its own, around DeepSpeed's",
        ("names are such as `schedule_free_adamw` or `ademamix`",),
    ),
    "badam on two processes": (
        FULL + WHOLE + TWO + '[optimizer]\ntype = "badam"\n',
        "U805",
        "`badam` runs on one process only",
        ("start one process",),
    ),
    "badam ratio on two processes": (
        FULL + WHOLE + TWO + '[optimizer]\ntype = "badam-ratio"\n',
        "U805",
        "`badam-ratio` runs on one process only",
        ("start one process",),
    ),
    "badam under stage 2": (
        FULL + '[optimizer]\ntype = "badam"\n',
        "U805",
        "`badam` does not go with ZeRO stage 2, which fixes what is updated",
        ("write `zero_stage = 0`",),
    ),
    "offloaded": (
        FULL + '[optimizer]\ntype = "sgd"\n[deepspeed]\noffload_optimizer = "cpu"\n',
        "U806",
        "`sgd` cannot be computed on the host",
        ("remove `offload_optimizer`, or use `adamw` or `lion`",),
    ),
    "offloaded in 8 bit": (
        '[optimizer]\ntype = "lion"\nstate = "8bit"\n[deepspeed]\noffload_optimizer = "cpu"\n',
        "U806",
        "offloaded state is kept in fp32, not in 8 bit",
        ("keep one of the two",),
    ),
    "pages": (
        '[optimizer]\ntype = "adamw"\nstate = "paged-32bit"\n',
        "U807",
        "there is no GPU memory that state could be paged out of",
        ('write `state = "fp32"`',),
    ),
    "misspelt": (
        '[optimizer]\ntype = "transformers"\nname = "ademamx"\n',
        "U808",
        "transformers has no optimizer `ademamx`",
        ("a similar name is `ademamix`",),
    ),
    "strange": (
        '[optimizer]\ntype = "transformers"\nname = "zzz"\n',
        "U808",
        "transformers has no optimizer `zzz`",
        ("names are such as `schedule_free_adamw`, `rmsprop` or `ademamix`",),
    ),
    "kind of its own": (
        '[optimizer]\ntype = "transformers"\nname = "adamw_torch"\n',
        "U811",
        "`adamw_torch` has a kind of its own",
        ('write `type = "adamw"`',),
    ),
    "start": (
        FULL + WHOLE + '[optimizer]\ntype = "badam"\nstart_block = 2\n',
        "U810",
        "there is no block 2: the model has 2, counted from 0",
        (),
    ),
}


@pytest.mark.parametrize("case", WORDINGS, ids=[name.replace(" ", "-") for name in WORDINGS])
def test_wording(case: str, told: Told) -> None:
    """The findings about optimizers say the cause, and the way out in the help; nothing else but packages is found."""
    text, code, message, helps = WORDINGS[case]
    (finding,) = (item for item in told(text) if item.code != "V901")
    assert (finding.code, finding.message, finding.helps) == (code, message, helps)


def test_lion_can_be_offloaded(told: Told) -> None:
    """Lion is computed on the host as well."""
    text = FULL + '[optimizer]\ntype = "lion"\n[deepspeed]\noffload_optimizer = "cpu"\n'
    assert told(text) == []


def test_8_bit_state_runs_on_a_cpu(told: Told) -> None:
    """bitsandbytes updates 8-bit state on a CPU too: only the package is asked for."""
    findings = told('[optimizer]\ntype = "adamw"\nstate = "8bit"\n')
    assert {item.code for item in findings} <= {"V901"}


@pytest.mark.parametrize("engine", ["megatron", "hyper_parallel"])
def test_stages_count_only_where_deepspeed_runs(engine: str, told: Told) -> None:
    """Another engine takes the place of DeepSpeed, so that its default stage is no reason for a finding."""
    text = FULL + f'[optimizer]\ntype = "galore"\n[{engine}]\n' + '[launch]\ndevice = "gpu"\n'
    assert "U803" not in {item.code for item in told(text)}


@pytest.mark.parametrize("name", sorted(TRANSFORMERS))
def test_every_name_of_transformers_is_known(name: str, told: Told) -> None:
    """A name that transformers knows is no misspelt one: it runs, has a kind of its own, or cannot run here."""
    text = f'[optimizer]\ntype = "transformers"\nname = "{name}"\n[launch]\ndevice = "gpu"\n'
    codes = [item.code for item in told(WHOLE + text) if item.level is Level.ERROR]
    wanted = ["U811"] if name in OWN_KINDS else ["U812"] if name in UNUSABLE else []
    assert codes == wanted


def test_names_are_those_of_transformers() -> None:
    """The list of names is that of the transformers the run is made for."""
    from transformers.training_args import OptimizerNames

    assert {name.value for name in OptimizerNames} == TRANSFORMERS
