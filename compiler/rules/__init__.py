"""Rules: small pure functions from a spec and its facts to findings, in one table.

A rule's docstring is its explanation and its test: what is wrong and why it matters, then a TOML block that
fails with exactly this code and one that passes. The blocks are laid over a small sound spec.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..diagnostics import Diagnostic
from ..facts import Facts
from ..spec import Spec
from . import (
    adapters,
    answers,
    available,
    batch,
    blocks,
    columns,
    combine,
    context,
    data,
    deepspeed,
    engines,
    evaluation,
    formats,
    generators,
    inference,
    kernels,
    ktransformers,
    launch,
    loading,
    logging,
    machines,
    media,
    memory,
    method,
    mix,
    model,
    numerics,
    objective,
    online,
    optimizer,
    optimizer_names,
    packed,
    packing,
    parallel,
    parameter_groups,
    patterns,
    precision,
    preferences,
    quantization,
    quantization_aware,
    ranges,
    references,
    remote,
    reward_model,
    rewards,
    rope,
    rotations,
    run,
    schedule,
    secrets,
    sizes,
    starts,
    streaming,
    template,
    tokenizer,
    tokens,
    training,
    updates,
    variants,
    versions,
)
from .rule import Rule

RULES: tuple[Rule, ...] = (
    *ranges.RULES,
    *run.RULES,
    *secrets.RULES,
    *model.RULES,
    *loading.RULES,
    *rope.RULES,
    *context.RULES,
    *tokenizer.RULES,
    *tokens.RULES,
    *template.RULES,
    *media.RULES,
    *kernels.RULES,
    *ktransformers.RULES,
    *quantization.RULES,
    *quantization_aware.RULES,
    *packed.RULES,
    *data.RULES,
    *formats.RULES,
    *columns.RULES,
    *mix.RULES,
    *remote.RULES,
    *streaming.RULES,
    *packing.RULES,
    *method.RULES,
    *patterns.RULES,
    *blocks.RULES,
    *variants.RULES,
    *sizes.RULES,
    *rotations.RULES,
    *starts.RULES,
    *adapters.RULES,
    *combine.RULES,
    *optimizer.RULES,
    *optimizer_names.RULES,
    *updates.RULES,
    *parameter_groups.RULES,
    *objective.RULES,
    *online.RULES,
    *generators.RULES,
    *rewards.RULES,
    *reward_model.RULES,
    *references.RULES,
    *preferences.RULES,
    *training.RULES,
    *schedule.RULES,
    *precision.RULES,
    *numerics.RULES,
    *batch.RULES,
    *deepspeed.RULES,
    *engines.RULES,
    *parallel.RULES,
    *launch.RULES,
    *machines.RULES,
    *inference.RULES,
    *evaluation.RULES,
    *answers.RULES,
    *logging.RULES,
    *memory.RULES,
    *versions.RULES,
    *available.RULES,
)

BASIC = (*ranges.RULES, *secrets.RULES)
"""Rules about single values; other rules say nothing about a value that these refuse."""
_BASIC_CODES = frozenset(rule.code for rule in BASIC)
FURTHER = tuple(rule for rule in RULES if rule.code not in _BASIC_CODES)

__all__ = ["RULES", "Rule", "check"]


def check(spec: Spec, facts: Facts | None) -> list[Diagnostic]:
    """Return the findings of all rules; without facts only the rules that need none are asked.

    A value that is out of range, no text at all, or a secret, is reported as that and as nothing else.
    """
    basic = _ask(BASIC, spec, facts)
    unusable = {finding.path for finding in basic}
    further = _ask(FURTHER, spec, facts)
    return basic + [found for found in further if unusable.isdisjoint(found.involves())]


def _ask(rules: Iterable[Rule], spec: Spec, facts: Facts | None) -> list[Diagnostic]:
    findings: list[Diagnostic] = []
    for rule in rules:
        if rule.pure is not None:
            findings += rule.pure(spec)
        if facts is not None and rule.factual is not None:
            findings += rule.factual(spec, facts)
    return findings
