"""Rules about objectives, rewards, references, evaluations and trackers: combinations and wording."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tunec.compiler.diagnostics import Diagnostic, Level
from tunec.compiler.rules.evaluation import METRICS

Find = Callable[..., tuple[Diagnostic, ...]]

PAIRS = '[data]\nsources = [{ format = "preference", path = "data/pairs.jsonl" }]\n'
PROMPTS = '[data]\nsources = [{ format = "prompt", path = "data/prompts.jsonl" }]\n'
EVALUATED = "[data]\neval_rows = 2\n[evaluation]\nevery_steps = 2\n"


def ppo(reward: str, more: str = "") -> str:
    """Return a spec that trains by PPO."""
    return f'[objective]\ntype = "ppo"\nreward = {{ {reward} }}\n{more}{PROMPTS}'


def of(findings: tuple[Diagnostic, ...], code: str) -> list[Diagnostic]:
    """Return the findings with a code."""
    return [item for item in findings if item.code == code]


def generated_by(server: str, method: str = "") -> str:
    """Return a spec of GRPO whose answers a vLLM server makes."""
    return (
        '[objective]\ntype = "grpo"\ngroup_size = 2\n'
        f'rewards = [{{ type = "function", path = "rewards.py" }}]\n'
        f'generator = {{ type = "vllm", {server} }}\n{PROMPTS}[method]\ntype = "lora"\n{method}\n'
    )


WORDINGS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "function": (
        ppo('type = "function", path = "rewards.py", name = "rewad"'),
        "O112",
        "`rewards.py` defines no `rewad`",
        ("a similar name is `reward`",),
    ),
    "file": (
        ppo('type = "function", path = "none.py"'),
        "O112",
        "there is no file `none.py`",
        (),
    ),
    "url": (
        ppo('type = "api", url = "localhost:8000"'),
        "O111",
        "`url` is no address that starts with `http://` or `https://`",
        ("write the whole address, such as `http://localhost:8000/score`",),
    ),
    "server": (
        generated_by('url = "localhost:8000"'),
        "O111",
        "`url` is no address that starts with `http://` or `https://`",
        ("write the whole address, such as `http://localhost:8000`",),
    ),
    "connections": (
        generated_by('url = "http://localhost:8000", connections = 0'),
        "T210",
        "`objective.generator.connections` is 0, allowed is at least 1",
        (),
    ),
    "impatient": (
        generated_by('url = "http://localhost:8000", timeout_s = 600'),
        "O115",
        "the vLLM server may be asked for 3,631 s, processes wait 1,800 s for each other",
        ("lower `timeout_s` or `retries`, or raise `deepspeed.timeout_s`",),
    ),
    "generator of DoRA": (
        generated_by('url = "http://localhost:8000"', "dora = true"),
        "O117",
        "a vLLM server does not take DoRA",
        ("leave it out, or leave `generator` out: then the policy answers itself",),
    ),
    "generator of PiSSA": (
        generated_by('url = "http://localhost:8000"', 'init = { type = "pissa" }'),
        "O117",
        "a vLLM server does not take a start that changes the base",
        ("leave it out, or leave `generator` out: then the policy answers itself",),
    ),
    "generator of OFT": (
        generated_by('url = "http://localhost:8000"').replace('"lora"', '"oft"'),
        "O117",
        "a vLLM server does not take an adapter of `oft`",
        (
            'use `type = "lora"` or train whole weights, or leave `generator` out: then the policy answers itself',
        ),
    ),
    "generator without a cache": (
        generated_by('url = "http://localhost:8000"') + "[generation]\nkv_cache = false\n",
        "O117",
        "a vLLM server does not take generation without its cache",
        ("leave it out, or leave `generator` out: then the policy answers itself",),
    ),
    "group": (
        '[objective]\ntype = "grpo"\ngroup_size = 3\n'
        f'rewards = [{{ type = "function", path = "rewards.py" }}]\n{PROMPTS}'
        "[batch]\nmicro_size = 2\naccumulation_steps = 4\n",
        "O105",
        "8 answers a step are no whole number of groups of 3",
        ("use a `global_size` of 6 or 9",),
    ),
    "group of one": (
        '[objective]\ntype = "grpo"\ngroup_size = 1\n'
        f'rewards = [{{ type = "function", path = "rewards.py" }}]\n{PROMPTS}',
        "T210",
        "`objective.group_size` is 1, allowed is at least 2",
        (),
    ),
    "smoothing": (
        '[objective]\ntype = "dpo"\nloss = { type = "sigmoid", label_smoothing = 0.6 }\n' + PAIRS,
        "T210",
        "`objective.loss.label_smoothing` is 0.6, allowed is from 0 to 0.5",
        (),
    ),
    "robust": (
        '[objective]\ntype = "dpo"\nloss = { type = "robust", label_smoothing = 0.5 }\n' + PAIRS,
        "T210",
        "`objective.loss.label_smoothing` is 0.5, allowed is from 0 to below 0.5",
        (),
    ),
    "best of nothing": (
        "[evaluation]\npatience = 2\n",
        "E101",
        "`patience` compares evaluations, and nothing is evaluated while training",
        ("hold rows out with `data.eval_rows`, and set `evaluation.every_steps`",),
    ),
    "checkpoints": (
        f"{EVALUATED}load_best = true\n[checkpoints]\nevery_steps = 3\n",
        "E102",
        "checkpoints of every 3 steps are not all evaluated, so none can be called the best",
        ("use a multiple of 2",),
    ),
    "metric": (
        f'{EVALUATED}metric = "rougel"\n',
        "E103",
        "an evaluation of `sft` measures no `rougel`",
        ("a similar name is `rougeL`",),
    ),
    "not generated": (
        f'{EVALUATED}metric = "rougeL"\n',
        "E104",
        "`rougeL` is not measured: `evaluation.generate` is off",
        ("write `generate = true`",),
    ),
    "generation without a prompt": (
        '[objective]\ntype = "sft"\nloss_on = "all"\n[data]\neval_rows = 2\n[evaluation]\ngenerate = true\n',
        "E107",
        "where all tokens carry loss, no prompt is left to answer",
        ('write `loss_on = "assistant"`, or leave `generate` out',),
    ),
    "space": (
        '[logging]\ntrackers = [{ type = "trackio", space = "a b" }]\n',
        "E121",
        "`space` is `a b`, expected `owner/name`",
        ("use letters, digits, `-`, `_` and `.`, and one `/` between owner and name",),
    ),
    "push": (
        '[export]\npush = "a/b/c"\n',
        "E121",
        "`push` is `a/b/c`, expected `owner/name`",
        ("use letters, digits, `-`, `_` and `.`, and one `/` between owner and name",),
    ),
}


@pytest.mark.parametrize("case", WORDINGS)
def test_wording(case: str, found: Find) -> None:
    """The findings about objectives say the cause with its names, and the way out in the help."""
    text, code, message, helps = WORDINGS[case]
    first = of(found(text), code)[0]
    assert (first.message, first.helps) == (message, helps)


def test_reward_files_are_never_run(folder: Path, found: Find) -> None:
    """The file of a reward function is parsed: what it does stays undone, and broken code is told by its line."""
    trap = folder / "trap.py"
    for code, messages in (
        (f"open({str(folder / 'ran')!r}, 'w')\ndef reward(): ...\n", []),
        ("async def reward(): ...\n", []),
        ("class reward: ...\n", []),
        ("if True:\n    def reward(): ...\n", ["`trap.py` defines no `reward`"]),
        ("def reward(:\n", ["`trap.py` is no Python: line 1: invalid syntax"]),
        ("x = 1\0\n", ["`trap.py` is no Python: "]),
        ("(" * 5000, ["`trap.py` is no Python: "]),
    ):
        trap.write_text(code)
        said = of(found(ppo('type = "function", path = "trap.py"')), "O112")
        assert len(said) == len(messages)
        assert all(i.message.startswith(m) for i, m in zip(said, messages, strict=True))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/b",
        "http://",
        "http:///x",
        "https//a",
        "http://a b",
        "http://a:b",
        "http://a:70000",
        "http://[::1",
        "",
    ],
)
def test_addresses_that_cannot_be_asked(url: str, found: Find) -> None:
    """An address has a scheme that can be asked, a host, and no blanks."""
    codes = {item.code for item in found(ppo(f'type = "api", url = "{url}"'))}
    assert codes & {"O111", "T213"}


def test_a_second_copy_is_a_note(found: Find) -> None:
    """That memory is needed twice stops nothing; the way around it is named."""
    (finding,) = of(found(f'[objective]\ntype = "dpo"\n{PAIRS}[method]\ntype = "full"\n'), "O122")
    assert finding.level is Level.NOTE
    assert finding.message.startswith("a second copy of the model is kept as reference")


def test_every_metric_of_an_objective_is_known(found: Find) -> None:
    """What the table of metrics lists is accepted, also for one source of several."""
    for names in METRICS.values():
        assert len(set(names)) == len(names)
    text = f'{EVALUATED}each_source = true\nmetric = "chat/loss"\n'
    assert not of(found(text), "E103")
    assert of(found(text.replace("each_source = true\n", "")), "E103")


def test_metrics_of_other_losses(found: Find) -> None:
    """Another loss than the cross-entropy has no perplexity, but the cross-entropy beside it; for the plain one it is the loss."""
    for objective, metric, is_wrong in (
        ("", "perplexity", False),
        ("", "cross_entropy", True),
        ('[objective]\nloss = { type = "dft" }\n', "perplexity", True),
        ('[objective]\nloss = { type = "dft" }\n', "cross_entropy", False),
        (
            '[objective]\nloss = { type = "cross-entropy", label_smoothing = 0.1 }\n',
            "perplexity",
            True,
        ),
    ):
        findings = found(f'{objective}{EVALUATED}metric = "{metric}"\nhigher_is_better = false\n')
        assert bool(of(findings, "E104")) == is_wrong
        assert not of(findings, "E103")
        assert not of(findings, "E105")


def test_directions_that_fit_are_not_mentioned(found: Find) -> None:
    """A direction is questioned only where it is the wrong one."""
    for metric, higher, is_wrong in (
        ("loss", True, True),
        ("loss", False, False),
        ("accuracy", True, False),
        ("accuracy", False, True),
    ):
        text = f'{EVALUATED}accuracy = true\nmetric = "{metric}"\nhigher_is_better = {str(higher).lower()}\n'
        assert bool(of(found(text), "E105")) is is_wrong
