"""The plan: batch arithmetic, length, adapters, memory, DeepSpeed's numbers, and what makes a run another run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from tunec.compiler.diagnostics import Level
from tunec.compiler.facts import Facts, gather
from tunec.compiler.forecast import describe
from tunec.compiler.pipeline import analyse, plan_of
from tunec.compiler.plan import Plan, make_plan
from tunec.compiler.rules import check
from tunec.compiler.rules.data import num_held_out
from tunec.compiler.spec import Batch, Spec
from tunec.compiler.structure import structure

MakePlan = Callable[[str], Plan]


@pytest.fixture
def plan(workspace: Path) -> MakePlan:
    """Return the plan of a spec laid over the base."""

    def make(text: str) -> Plan:
        analysis = analyse(tiny.write_spec(workspace / "spec.toml", text), {})
        assert analysis.ok, analysis.diagnostics
        return plan_of(analysis)

    return make


def base_spec(**sections: dict[str, Any]) -> Spec:
    """Return the base spec with keys of its sections replaced."""
    data: dict[str, Any] = tomli.loads(tiny.BASE)
    for name, values in sections.items():
        data[name] = {**data.get(name, {}), **values}
    result = structure(data)
    assert result.diagnostics == ()
    return result.spec


def no_facts(spec: Spec) -> Facts:
    """Return the facts of a machine that has none of the files."""
    return gather(spec, Path("/nowhere/spec.toml"), {})


def derived(plan: Plan) -> dict[str, tuple[Any, str]]:
    """Return the derived values with their reasons by name."""
    return {".".join(map(str, d.path)): (d.value, d.reason) for d in plan.derived}


# --- batch -----------------------------------------------------------------------------------------------

SIZE = st.integers(1, 64)


@settings(max_examples=150, deadline=None)
@given(micro=SIZE, steps=SIZE, processes=st.integers(1, 16), left_out=st.sampled_from("gma "))
def test_any_two_numbers_give_the_third(
    micro: int, steps: int, processes: int, left_out: str
) -> None:
    """Whichever of the three is left out, the product holds for the number of processes."""
    batch = Batch(
        global_size=None if left_out == "g" else micro * steps * processes,
        micro_size=None if left_out == "m" else micro,
        accumulation_steps=None if left_out == "a" else steps,
    )
    spec = attrs.evolve(base_spec(launch={"processes": processes}), batch=batch)
    assert [f for f in check(spec, None) if f.code.startswith("R8")] == []
    planned = make_plan(spec, no_facts(spec), spec_name="spec.toml").batch
    assert (planned.total, planned.micro, planned.accumulation, planned.processes) == (
        micro * steps * processes,
        micro,
        steps,
        processes,
    )


@settings(max_examples=150, deadline=None)
@given(total=st.integers(1, 500), known=SIZE, processes=st.integers(1, 16), micro=st.booleans())
def test_what_does_not_divide_is_refused_with_sizes_that_do(
    total: int, known: int, processes: int, micro: bool
) -> None:
    """A batch is accepted exactly when it divides, and every size the help names is accepted."""
    name = "micro_size" if micro else "accumulation_steps"

    def refusal(size: int) -> list[Any]:
        spec = base_spec(launch={"processes": processes})
        batch = Batch(global_size=size, **{name: known})
        found = check(attrs.evolve(spec, batch=batch), None)
        return [f for f in found if f.level is Level.ERROR]

    found = refusal(total)
    assert [f.code for f in found] == ([] if total % (known * processes) == 0 else ["R811"])
    for finding in found:
        sizes = finding.helps[0].removeprefix("use a `global_size` of ").split(" or ")
        assert [refusal(int(size)) for size in sizes] == [[]] * len(sizes)


def test_the_arithmetic_is_the_reason(plan: MakePlan) -> None:
    """A derived number of the batch shows how it came about."""
    assert derived(plan(""))["batch.accumulation_steps"] == (2, "4 / (2 x 1)")
    both = plan("[launch]\nprocesses = 2\n")
    assert derived(both)["batch.accumulation_steps"] == (1, "4 / (2 x 2)")


# --- length ----------------------------------------------------------------------------------------------


def lasting(text: str) -> Spec:
    """Return the base spec with other settings of `[training]` and `[data]` and no steps."""
    data = tomli.loads(tiny.BASE)
    del data["training"]["steps"]
    for name, values in tomli.loads(text).items():
        data[name] = {**data.get(name, {}), **values}
    return structure(data).spec


@pytest.mark.parametrize(
    ("text", "rows", "steps", "warmup"),
    [
        ("", 24, 6, 0),
        ("[training]\nepochs = 2\n", 24, 12, 0),
        ("[training]\nepochs = 0.5\nwarmup_ratio = 0.1\n", 24, 3, 1),
        ("[training]\nepochs = 1.1\n[data]\neval_rows = 4\n", 20, 6, 0),
        ("[data]\neval_rows = 0.05\n", 23, 6, 0),
        ("[data]\neval_rows = 0.0\n", 24, 6, 0),
        ("[training]\nsteps = 100\nwarmup_ratio = 0.07\n", 24, 100, 7),
        ("[training]\nsteps = 100\nwarmup_ratio = 0.071\n", 24, 100, 8),
        ("[training]\nsteps = 9\nwarmup_steps = 3\n", 24, 9, 3),
    ],
)
def test_length(text: str, rows: int, steps: int, warmup: int, workspace: Path) -> None:
    """Rows, steps and warm-up follow from the data, in exact arithmetic: 7 % of 100 steps are 7."""
    spec = lasting(text)
    facts = gather(spec, workspace / "spec.toml", {})
    duration = make_plan(spec, facts, spec_name="spec.toml").duration
    assert (duration.num_rows, duration.num_steps, duration.warmup_steps) == (rows, steps, warmup)


@settings(max_examples=100, deadline=None)
@given(epochs=st.integers(1, 400), ratio=st.integers(0, 99))
def test_shares_are_taken_as_they_are_written(epochs: int, ratio: int, length_facts: Facts) -> None:
    """Decimal numbers are the numbers they look like, not their neighbours in binary."""
    spec = lasting(f"[training]\nepochs = {epochs / 100}\nwarmup_ratio = {ratio / 100}\n")
    duration = make_plan(spec, length_facts, spec_name="spec.toml").duration
    assert duration.num_steps == math.ceil(Fraction(epochs * 24, 400))
    assert duration.warmup_steps == math.ceil(Fraction(ratio * duration.num_steps, 100))


@pytest.fixture(scope="module")
def length_facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The facts of a folder with 24 rows and no model."""
    folder = tmp_path_factory.mktemp("length")
    tiny.write_chats(folder / "data" / "chat.jsonl", 24)
    return gather(lasting(""), folder / "spec.toml", {})


@settings(max_examples=100, deadline=None)
@given(total=st.integers(2, 300), share=st.floats(0.001, 0.999))
def test_rows_are_held_out_as_the_runtime_does(total: int, share: float) -> None:
    """The plan counts the evaluation rows the way the program will draw them."""
    from tunec.runtime.data.samples import Sample, Samples, split
    from tunec.runtime.errors import UserError

    samples = Samples([Sample([1], [1])] * total)
    planned = num_held_out(share, total)
    try:
        train, evaluation = split(samples, eval_rows=share, seed=0)
    except UserError:
        assert planned >= total
    else:
        assert (len(train), len(evaluation)) == (total - planned, planned)


def test_what_cannot_be_known_is_said(plan: MakePlan, workspace: Path) -> None:
    """Rows that preparation may drop leave the length open; a hub model leaves its size open."""
    text = tiny.to_toml(
        {**tomli.loads(tiny.BASE), "data": {**tomli.loads(tiny.BASE)["data"], "too_long": "drop"}}
    ).replace("steps = 4\n", "epochs = 2\n", 1)
    (workspace / "spec.toml").write_text(text)
    dropped = plan_of(analyse(workspace / "spec.toml", {}))
    assert (dropped.duration.num_rows, dropped.duration.num_steps) == (None, None)
    assert dropped.unknown == (
        "the number of steps: it follows from the rows left after preparation",
    )
    hub = plan('[model]\npath = "org/name"\n')
    assert (hub.parameters, hub.memory) == (None, None)
    assert hub.adapter is not None
    assert hub.adapter.targets == "all-linear"
    assert hub.unknown == (
        "the model is not on this machine: its modules, size and memory are unknown",
    )


def test_what_was_not_looked_at_is_said(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large source the plan says how far its rows were checked; the rest is counted."""
    monkeypatch.setattr("tunec.compiler.facts.data.WHOLE_BYTES", 500)
    large = plan("")
    (fact,) = large.facts.data
    assert 0 < fact.num_checked < 24
    assert large.unknown == (
        f"the rows of `data/chat.jsonl` behind the first {fact.num_checked}, which are good",
    )
    assert large.duration.num_rows == 24
    monkeypatch.setattr("tunec.compiler.facts.data.WHOLE_BYTES", 5)
    assert plan("").unknown == (
        "the rows of `data/chat.jsonl`: the first is too large to be looked at here",
    )


def test_packed_rows_are_not_counted_here(plan: MakePlan, workspace: Path) -> None:
    """How many rows the samples fill, only their tokens tell: packed epochs leave the steps open, in words."""
    text = '[data]\npacking = "{}"\n[training]\nepochs = 2\nwarmup_ratio = 0.1\n'
    tiny.write_over(workspace / "spec.toml", text.format("isolated"))
    packed = plan_of(analyse(workspace / "spec.toml", {}))
    assert (packed.duration.num_rows, packed.duration.num_steps) == (24, None)
    assert packed.duration.warmup_steps is None
    assert packed.unknown == (
        "the number of steps: it follows from the rows that the samples are packed into",
    )
    assert "4 packed rows a step" in describe(packed, ())
    tiny.write_over(workspace / "spec.toml", text.format("padding-free"))
    free = plan_of(analyse(workspace / "spec.toml", {}))
    assert (free.duration.num_rows, free.duration.num_steps) == (24, 12)
    written = plan('[data]\npacking = "isolated"\n')
    assert written.duration.num_steps == 4
    assert "epochs of" not in describe(written, ())


# --- adapters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "targets", ['"all-linear"', '["q_proj", "v_proj"]', '["layers.1.mlp.down_proj"]']
)
def test_parameters_are_those_peft_makes_trainable(
    targets: str, plan: MakePlan, tiny_model: Path
) -> None:
    """Both counts of the plan are those of the adapted model."""
    from transformers import AutoModelForCausalLM

    from tunec.runtime.models import add_lora

    planned = plan(f"[method]\nrank = 3\ntargets = {targets}\n")
    assert planned.adapter is not None
    model = add_lora(
        AutoModelForCausalLM.from_pretrained(str(tiny_model)),
        rank=3,
        alpha=planned.adapter.alpha,
        dropout=0.0,
        targets=planned.adapter.targets,
    )
    assert planned.parameters is not None
    counts = [
        sum(p.numel() for p in model.parameters() if p.requires_grad or all_) for all_ in (0, 1)
    ]
    assert [planned.parameters.trainable, planned.parameters.total] == counts
    assert planned.adapter.num_modules == sum(hasattr(m, "lora_A") for m in model.modules())


def test_all_linear_is_spelt_out(plan: MakePlan) -> None:
    """The program names the modules it adapts, and the plan says why those."""
    assert derived(plan(""))["method.targets"] == (
        ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"),
        "all-linear: 14 modules of the model",
    )


def test_full_training_trains_everything(plan: MakePlan) -> None:
    """Without adapters all parameters are trained."""
    planned = plan('[method]\ntype = "full"\n')
    assert planned.adapter is None
    assert planned.parameters is not None
    assert planned.parameters.total == planned.parameters.trainable


def test_memory_follows_the_stages(plan: MakePlan) -> None:
    """Each stage divides what it shards by the processes: optimizer state, gradients, weights."""
    text = '[method]\ntype = "full"\n[launch]\nprocesses = 2\n[deepspeed]\nzero_stage = {}\n'
    memory = [plan(text.format(stage)).memory for stage in range(4)]
    assert all(memory)
    states = [(m.optimizer, m.gradients, m.weights) for m in memory if m is not None]
    optimizer, gradients, weights = states[0]
    assert states[1] == (optimizer // 2, gradients, weights)
    assert states[2] == (optimizer // 2, gradients // 2, weights)
    assert states[3] == (optimizer // 2, gradients // 2, weights // 2)


# --- DeepSpeed -------------------------------------------------------------------------------------------

ALWAYS = {
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "zero_optimization",
    "zero_allow_untested_optimizer",
    "steps_per_print",
}
OF_STAGE: dict[int, set[str]] = {
    0: {"stage"},
    1: {"stage", "reduce_bucket_size", "contiguous_gradients", "overlap_comm", "allgather_bucket_size"},
    3: {
        "stage",
        "reduce_bucket_size",
        "contiguous_gradients",
        "overlap_comm",
        "stage3_prefetch_bucket_size",
        "stage3_param_persistence_threshold",
        "stage3_max_live_parameters",
        "stage3_max_reuse_distance",
        "sub_group_size",
        "stage3_gather_16bit_weights_on_model_save",
    },
}  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("offload", ["none", "cpu"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_is_concrete(stage: int, precision: str, offload: str, device: str) -> None:
    """Numbers instead of "auto", and no key for anything that is off."""
    spec = base_spec(
        training={"precision": precision},
        deepspeed={"zero_stage": stage, "offload_optimizer": offload},
        launch={"device": device},
    )
    errors = {f.code for f in check(spec, None) if f.level is Level.ERROR}
    if errors:
        assert errors <= {"R804", "R820"}
        return
    config = make_plan(spec, no_facts(spec), spec_name="spec.toml").deepspeed
    assert "auto" not in json.dumps(config)
    zero = config["zero_optimization"]
    kept = {"zero_force_ds_cpu_optimizer"} if offload == "cpu" else set()
    assert set(config) == ALWAYS | ({precision} - {"fp32"}) | kept
    assert set(zero) == OF_STAGE[1 if stage == 2 else stage] | (
        {"offload_optimizer"} if offload == "cpu" else set()
    )
    assert zero["stage"] == stage
    assert zero.get("overlap_comm") in (None, device == "gpu")
    product = config["train_micro_batch_size_per_gpu"] * config["gradient_accumulation_steps"]
    assert config["train_batch_size"] == product


def test_deepspeed_itself_accepts_the_numbers(plan: MakePlan) -> None:
    """Every key of every stage is one that DeepSpeed's own configuration class knows."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    for stage in range(4):
        zero = plan(f"[deepspeed]\nzero_stage = {stage}\n").deepspeed["zero_optimization"]
        names = {
            alias
            for name, info in DeepSpeedZeroConfig.model_fields.items()
            for alias in (name, info.alias)
        }
        assert set(zero) <= names
        DeepSpeedZeroConfig(**zero)


# --- fingerprint -----------------------------------------------------------------------------------------

ANOTHER_RUN = [
    "[training]\nlearning_rate = 5e-3\n",
    "[training]\nsteps = 5\n",
    "[training]\nseed = 1\n",
    '[training]\nschedule = "linear"\n',
    "[training]\nmax_grad_norm = 0.0\n",
    '[training]\nprecision = "bf16"\n',
    "[method]\nrank = 8\n",
    '[method]\ntargets = ["q_proj"]\n',
    '[method]\ntype = "full"\n',
    "[batch]\nmicro_size = 4\n",
    "[batch]\nglobal_size = 8\n",
    "[launch]\nprocesses = 2\n",
    "[data]\nmax_length = 64\n",
    "[data]\neval_rows = 2\n",
    "[data]\nshuffle = false\n",
    '[objective]\nloss_on = "all"\n',
    "[optimizer]\nweight_decay = 0.1\n",
    "[deepspeed]\nzero_stage = 3\n",
]
SAME_RUN = [
    "",
    "[logging]\nevery_steps = 7\nplot = false\n",
    '[run]\noutput_dir = "elsewhere"\nname = "other"\non_existing = "resume"\n',
    "[checkpoints]\nevery_steps = 2\nkeep = 9\n",
    "[generation]\ntemperature = 0.1\n",
    "[export]\nmax_shard_gib = 1.0\n",
    "[launch]\nport = 29500\ngrace_s = 5\n",
    "[optimizer]\nweight_decay = 0.0\n",
    "[training]\nseed = 42\n",
]


@pytest.mark.parametrize("text", ANOTHER_RUN)
def test_another_run_has_another_fingerprint(text: str, plan: MakePlan) -> None:
    """What decides the numbers of the training makes a run that no old checkpoint belongs to."""
    assert plan(text).fingerprint != plan("").fingerprint


@pytest.mark.parametrize("text", SAME_RUN)
def test_the_same_run_keeps_its_fingerprint(text: str, plan: MakePlan) -> None:
    """Where a run is written, how it is logged, and defaults written out do not make it another one."""
    assert plan(text).fingerprint == plan("").fingerprint


def test_order_and_comments_do_not_count(plan: MakePlan, workspace: Path) -> None:
    """The same values in another order, with comments, are the same spec."""
    before = plan("")
    data = tomli.loads(tiny.BASE)
    turned = {name: dict(reversed(data[name].items())) for name in reversed(data)}
    (workspace / "spec.toml").write_text("# a comment\n" + tiny.to_toml(turned))
    after = plan_of(analyse(workspace / "spec.toml", {}))
    assert (after.fingerprint, after.spec_sha256) == (before.fingerprint, before.spec_sha256)


def test_the_content_of_the_data_counts(plan: MakePlan, workspace: Path) -> None:
    """The same rows elsewhere are the same data; one more row is other data."""
    before = plan("").fingerprint
    with (workspace / "data" / "chat.jsonl").open("a") as file:
        file.write((workspace / "data" / "chat.jsonl").read_text().splitlines()[0] + "\n")
    assert plan("").fingerprint != before
