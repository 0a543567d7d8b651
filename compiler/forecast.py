"""A plan in words: what would happen, before anything does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .apply import Change, FileChange, is_other_run
from .plan import Memory, Plan
from .plan.layout import has_packed_rows
from .plan.optimizer import optimizer_class
from .plan.rollout import rollout_of
from .rules.combine import num_merged
from .rules.common import VIRTUAL
from .rules.rewards import rewards_of
from .spec import (
    AdapterReward,
    ApiReward,
    FunctionReward,
    Grpo,
    Lora,
    ModelReward,
    Ppo,
    VllmGenerator,
)

GIB = 2**30


def describe(plan: Plan, changes: Sequence[FileChange]) -> str:
    """Return the plan as text for a terminal."""
    sections = [
        ("files", _files(plan, changes)),
        ("training", _training(plan)),
        ("model", _model(plan)),
        ("memory", _memory(plan)),
        ("derived values", _derived(plan)),
        ("not known here", iter(plan.unknown)),
    ]
    blocks = []
    for title, lines in sections:
        body = [f"  {line}" for line in lines]
        if body:
            blocks.append("\n".join([title, *body]))
    return "\n\n".join(blocks) + "\n"


def _files(plan: Plan, changes: Sequence[FileChange]) -> Iterator[str]:
    words = {
        Change.NEW: "new",
        Change.CHANGED: "will be rewritten",
        Change.SAME: "as it is",
        Change.EDITED: "changed by hand: needs --force",
    }
    folder = plan.facts.output
    bound = folder.started and is_other_run(changes)
    yield f"in {folder.path}"
    for item in changes:
        text = words[item.change]
        if bound and item.change is Change.CHANGED:
            text = "differs"
        yield f"{item.change.value} {item.name:<15} {text}"
    if bound:
        yield "the folder holds a run of another spec: nothing is written unless `tunec train --overwrite` ends it"
    if folder.finished:
        yield "the folder holds a finished run"
    elif folder.started:
        yield f"the folder holds a run that reached step {folder.step or 0}"


def _training(plan: Plan) -> Iterator[str]:
    batch, duration, spec = plan.batch, plan.duration, plan.spec
    processes = _count(batch.processes, "process", "processes")
    by_tokens = (
        f"in micro batches of up to {batch.tokens:,} tokens on {processes}" if batch.tokens else ""
    )
    by_samples = f"= {batch.micro} micro x {batch.accumulation} accumulation x {processes}"
    yield f"batch     {batch.total} {_unit(plan)} a step {by_tokens or by_samples}"
    if duration.num_steps is None:
        epochs = _count(duration.num_epochs, "epoch", "epochs")
        yield f"length    {epochs}; the steps follow from the prepared data"
    else:
        yield f"length    {_count(duration.num_steps, 'step', 'steps')}{_epochs(plan)}"
    yield from _rollouts(plan)
    if duration.num_tokens is not None:
        yield f"tokens    about {duration.num_tokens:,} an epoch (guessed from the files' size, template not counted)"
    if duration.num_eval:
        yield f"evaluate  {duration.num_eval:,} rows, {_when(spec.evaluation.every_steps)}"
    save = spec.checkpoints.every_steps
    keep = spec.checkpoints.keep
    kept = _count(keep, "checkpoint", "checkpoints") if keep else "all"
    yield f"save      {_every(save) if save else 'when stopped'}, {kept} kept"
    yield f"rate      {spec.training.learning_rate:g} {spec.training.schedule}, {_warmup(plan)}"
    yield f"optimizer {optimizer_class(spec)}"
    for group in spec.training.groups:
        rate = f"rate {group.rate_factor * spec.training.learning_rate:g}"
        decay = "" if group.weight_decay is None else f", decay {group.weight_decay:g}"
        yield f"          {rate}{decay} for parameters matching `{group.pattern}`"
    if spec.training.ema_decay is not None:
        yield f"average   decay {spec.training.ema_decay:g}: evaluated and saved in place of the weights"


def _unit(plan: Plan) -> str:
    """Name what a batch is made of; how many samples a packed row holds, only the prepared data tell."""
    if rollout_of(plan.spec, plan.batch.total) is not None:
        return "answers"
    return "packed rows" if has_packed_rows(plan.spec) else "samples"


def _rollouts(plan: Plan) -> Iterator[str]:
    """Say how many answers are made at once, and what scores them."""
    rollout = rollout_of(plan.spec, plan.batch.total)
    if rollout is None:
        return
    steps = plan.duration.num_steps
    number = f"{_count(-(-steps // rollout.steps), 'rollout', 'rollouts')} of " if steps else ""
    prompts = _count(rollout.prompts, "prompt", "prompts")
    yield f"rollouts  {number}{prompts} with {rollout.answers:,} answers, each for {_count(rollout.steps, 'step', 'steps')}"
    objective = plan.spec.objective
    if isinstance(objective, Ppo | Grpo) and isinstance(objective.generator, VllmGenerator):
        where = _address(objective.generator.url)
        yield f"answers   vLLM server {where}, which must see the run folder at the same path"
    for _, reward in rewards_of(plan.spec):
        match reward:
            case FunctionReward():
                yield f"reward    function `{reward.name}` of {reward.path}, which runs with your rights"
            case ApiReward():
                yield f"reward    server {_address(reward.url)}"
            case ModelReward() | AdapterReward():
                yield f"reward    {reward.type} {reward.path}"


def _address(url: str) -> str:
    """Return an address without scheme and without what may be a password."""
    return url.partition("://")[2].rpartition("@")[2]


def _epochs(plan: Plan) -> str:
    rows, steps = plan.duration.num_rows, plan.duration.num_steps
    if not rows or steps is None or has_packed_rows(plan.spec):
        return ""
    rollout = rollout_of(plan.spec, plan.batch.total)
    if rollout is not None:
        prompts = -(-steps // rollout.steps) * rollout.prompts
        return f" = {prompts / rows:.2f} epochs of {rows:,} prompts"
    return f" = {steps * plan.batch.total / rows:.2f} epochs of {rows:,} rows"


def _when(every: int | None) -> str:
    return f"{_every(every)} and at the end" if every else "at the end"


def _warmup(plan: Plan) -> str:
    steps = plan.duration.warmup_steps
    if steps is None:
        return f"{plan.duration.warmup_ratio:.0%} warm-up"
    return f"{_count(steps, 'step', 'steps')} of warm-up" if steps else "no warm-up"


def _model(plan: Plan) -> Iterator[str]:
    spec, parameters = plan.spec, plan.parameters
    yield f"weights   {spec.model.path}, {spec.training.precision}"
    if spec.model.trust_remote_code:
        yield "code      Python shipped with the model will run (model.trust_remote_code)"
    yield from _earlier(plan)
    yield from _adapter(plan)
    yield from _rounding(plan)
    if parameters is not None:
        share = 100 * parameters.trainable / parameters.total
        yield f"trained   {parameters.trainable:,} of {parameters.total:,} parameters ({share:.2f} %)"


def _earlier(plan: Plan) -> Iterator[str]:
    """Yield what becomes of adapters of an earlier training, and what the trained adapter then belongs to."""
    adapters, count = plan.spec.adapters, num_merged(plan.spec)
    if count:
        how = (
            "merged"
            if adapters.combine == "merge" or count < 2
            else f"combined ({adapters.combine})"
        )
        yield f"base      the weights with {', '.join(adapters.paths[:count])} {how}; what is trained belongs to these"
    if adapters.paths[count:]:
        yield f"continues {adapters.paths[-1]}"


def _adapter(plan: Plan) -> Iterator[str]:
    """Yield what is put beside the weights, and how often."""
    adapter, method = plan.adapter, plan.spec.method
    if adapter is not None and adapter.num_modules is not None:
        sizes = [f"rank {adapter.rank}"] if adapter.rank is not None else []
        sizes += [f"alpha {adapter.alpha:g}"] if adapter.alpha is not None else []
        kind = "" if isinstance(method, Lora) else f"{method.type}, "
        words = ", ".join([*sizes, f"on {_count(adapter.num_modules, 'module', 'modules')}"])
        yield f"adapters  {kind}{words}"
    elif isinstance(method, VIRTUAL):
        yield f"adapters  {method.type}, {_count(method.num_tokens, 'virtual token', 'virtual tokens')}"


def _rounding(plan: Plan) -> Iterator[str]:
    """Yield what quantization-aware training computes with, and where the quantized model comes from."""
    aware = plan.spec.quantization_aware
    if aware is not None:
        yield f"rounding  {aware.type} in groups of {aware.group_size}, in training and evaluation"
        yield "          final/ holds ordinary weights; `tunec export` writes the quantized model"


def _memory(plan: Plan) -> Iterator[str]:
    memory: Memory | None = plan.memory
    if memory is None:
        return
    parts = [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("answers", memory.cache)
        if memory.cache > memory.activations
        else ("activations", memory.activations),
        *([("reference", memory.reference)] if memory.reference else []),
        *([("rewards", memory.rewards)] if memory.rewards else []),
        ("other", memory.other),
    ]
    yield f"about {memory.total / GIB:.1f} GiB a process, at full sample length"
    yield ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts)
    if memory.reference_saved is not None:
        saved = memory.reference_saved / GIB
        words = f", which saves {saved:.2f} GiB" if saved >= 0.005 else ""
        yield f"no reference is in memory: its log-probabilities are computed before the first step{words}"
    if memory.host_optimizer:
        yield f"{memory.host_optimizer / GIB:.1f} GiB of optimizer state on the host"
    yield f"{memory.checkpoint / GIB:.2f} GiB a checkpoint, {memory.final / GIB:.2f} GiB final weights"


def _count(number: float, one: str, many: str) -> str:
    return f"{number:,g} {one if number == 1 else many}" if number < 10**6 else f"{number:,} {many}"


def _every(steps: int) -> str:
    return "every step" if steps == 1 else f"every {steps:,} steps"


def _derived(plan: Plan) -> Iterator[str]:
    for item in plan.derived:
        value = item.value
        shown = ", ".join(value) if isinstance(value, tuple) else f"{value}"
        yield f"{'.'.join(map(str, item.path))} = {shown}   ({item.reason})"
