"""The same twelve mistakes for tunec, TRL and LLaMA-Factory: how long to the first error, how many in one run.

    .venv/bin/python benchmarks/peer_mistakes.py --trl /tmp/venv-trl --llamafactory /tmp/venv-lf

Each tool gets its own spelling of one configuration with twelve mistakes. It runs; the mistakes it names are mended;
it runs again, until it names no more of them. What is left then was never reported before training began.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import REPO, WORK, machine, measured_on, table, write_json

sys.path.insert(0, str(REPO / "tests"))

Settings = dict[str, object]


@dataclass(frozen=True)
class Mistake:
    """One mistake: for each tool the settings that make it and what its report must name; `{}` cannot be written."""

    name: str
    tunec: str
    named_by_tunec: str
    trl: Mapping[str, object]
    named_by_trl: str
    llamafactory: Mapping[str, object]
    named_by_llamafactory: str


MISTAKES = (
    Mistake(
        "unknown key",
        "method.rnak = 8",
        r"\brnak\b",
        {"lora_rnak": 8},
        r"lora_rnak",
        {"lora_rnak": 8},
        r"lora_rnak",
    ),
    Mistake(
        "misspelt choice",
        'training.schedule = "cosin"',
        r"\bcosin\b",
        {"lr_scheduler_type": "cosin"},
        r"\bcosin\b",
        {"lr_scheduler_type": "cosin"},
        r"\bcosin\b",
    ),
    Mistake(
        "text for a number",
        'batch.micro_size = "two"',
        r"batch\.micro_size",
        {"per_device_train_batch_size": "two"},
        r"per_device_train_batch_size|'two'|=two",
        {"per_device_train_batch_size": "two"},
        r"per_device_train_batch_size|'two'|=two",
    ),
    Mistake(
        "dropout above 1",
        "method.dropout = 1.5",
        r"method\.dropout",
        {"lora_dropout": 1.5},
        r"(?i)dropout.*(must|should|between|range|invalid)",
        {"lora_dropout": 1.5},
        r"(?i)dropout.*(must|should|between|range|invalid)",
    ),
    Mistake(
        "negative learning rate",
        "training.learning_rate = -1e-4",
        r"training\.learning_rate",
        {"learning_rate": -1e-4},
        r"[Ii]nvalid learning rate|learning_rate",
        {"learning_rate": -1e-4},
        r"[Ii]nvalid learning rate|learning_rate",
    ),
    Mistake(
        "evaluation without data",
        "evaluation.every_steps = 5",
        r"nothing to evaluate on",
        {"eval_strategy": "steps", "eval_steps": 5},
        r"eval_dataset|eval_strategy|dataset_test_split|test.*split|KeyError: 'test'",
        {"eval_strategy": "steps", "eval_steps": 5},
        r"eval_dataset|val_size|evaluation",
    ),
    Mistake(
        "target that no module has",
        'method.targets = ["q_proj", "quary"]',
        r"quary",
        {"lora_target_modules": ["q_proj", "quary"]},
        r"quary",
        {"lora_target": "q_proj,quary"},
        r"quary",
    ),
    Mistake(
        "data file that is not there",
        'data.sources[1].path = "data/nowhere.jsonl"',
        r"nowhere",
        {"eval_file": "data/nowhere.jsonl"},
        r"nowhere",
        {"dataset": "chat,nowhere"},
        r"nowhere",
    ),
    Mistake(
        "row without an answer",
        'data.sources[0].path = "data/bad.jsonl"',
        r"bad\.jsonl",
        {"train_file": "data/bad.jsonl"},
        r"bad\.jsonl|assistant|messages",
        {"bad_rows": True},
        r"bad\.jsonl|[Ii]nvalid (message|role)|[Dd]ropped invalid",
    ),
    Mistake(
        "longer than the model",
        "data.max_length = 100000",
        r"data\.max_length",
        {"max_length": 100000},
        r"(?i)(error|warning).*(max_length|longer than|exceed)|longer than the",
        {"cutoff_len": 100000},
        r"(?i)(error|warning).*(cutoff_len|longer than|exceed)|longer than the",
    ),
    Mistake(
        "unknown optimizer",
        'optimizer.type = "adamx"',
        r"adamx",
        {"optim": "adamx"},
        r"adamx",
        {"optim": "adamx"},
        r"adamx",
    ),
    Mistake(
        "checkpoint that is not there",
        'run.resume_from = "no/checkpoint-9"',
        r"checkpoint-9",
        {"resume_from_checkpoint": "no/checkpoint-9"},
        r"checkpoint-9",
        {"resume_from_checkpoint": "no/checkpoint-9"},
        r"checkpoint-9",
    ),
)


@dataclass
class Outcome:
    """What one tool did, run by run."""

    seconds: list[float] = field(default_factory=list)
    reported: list[list[str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    last_words: str = ""


Run = Callable[[list[Mistake]], tuple[float, str]]


def main() -> None:
    """Measure and print."""
    options = _parser().parse_args()
    facts = machine()
    folder = _prepare()
    runs: dict[str, tuple[Run, str]] = {
        "tunec": (lambda left: run_tunec(folder, left), "named_by_tunec")
    }
    if options.trl:
        runs["TRL"] = (lambda left: run_trl(folder, left, options.trl), "named_by_trl")
    if options.llamafactory:
        python = options.llamafactory
        runs["LLaMA-Factory"] = (
            lambda left: run_llamafactory(folder, left, python),
            "named_by_llamafactory",
        )
    outcomes = {name: mend_and_repeat(run, key) for name, (run, key) in runs.items()}
    print(f"{measured_on(facts)}\n\n{_table(outcomes)}")
    for name, outcome in outcomes.items():
        print(f"\n{name}: {outcome.reported}\n  never named: {outcome.left}")
        if options.verbose:
            print(outcome.last_words)
    if options.json is not None:
        write_json(options.json, {"machine": facts, **{k: vars(v) for k, v in outcomes.items()}})


def mend_and_repeat(run: Run, key: str) -> Outcome:
    """Run, mend what was named, and run again until nothing more is named."""
    outcome, left = Outcome(), list(MISTAKES)
    while left:
        seconds, text = run(left)
        named = [mistake for mistake in left if re.search(getattr(mistake, key), text)]
        outcome.seconds.append(seconds)
        outcome.reported.append([mistake.name for mistake in named])
        left = [mistake for mistake in left if mistake not in named]
        outcome.last_words = text[-1500:]
        if not named:
            break
    outcome.left = [mistake.name for mistake in left]
    return outcome


def _prepare() -> Path:
    """Write the tiny model and the data that all three configurations name."""
    import tiny

    folder = WORK / "mistakes"
    shutil.rmtree(folder, ignore_errors=True)
    tiny.make_model(folder / "model")
    tiny.write_chats(folder / "data" / "chat.jsonl", 24)
    tiny.write_chats(folder / "data" / "more.jsonl", 8, seed=1)
    rows = (folder / "data" / "chat.jsonl").read_text().splitlines()
    rows[5] = '{"messages": [{"role": "user", "content": "And?"}]}'
    (folder / "data" / "bad.jsonl").write_text("\n".join(rows) + "\n")
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user"}
    entry = {
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {**tags, "assistant_tag": "assistant", "system_tag": "system"},
    }
    info = {name: {"file_name": f"{name}.jsonl", **entry} for name in ("chat", "more", "bad")}
    (folder / "data" / "dataset_info.json").write_text(json.dumps(info))
    return folder


# The three tools.


def run_tunec(folder: Path, left: list[Mistake]) -> tuple[float, str]:
    """Check the spec with the mistakes that are left, as one file."""
    import tomli

    spec = tomli.loads(TUNEC)
    for mistake in left:
        name, _, value = mistake.tunec.partition(" = ")
        *path, key = re.findall(r"[a-z_]+|\d+", name)
        table_: object = spec
        for step in path:
            table_ = table_[int(step)] if isinstance(table_, list) else table_.setdefault(step, {})  # type: ignore[attr-defined]
        assert isinstance(table_, dict)
        table_[key] = tomli.loads(f"x = {value}")["x"]
    import tiny

    (folder / "run.toml").write_text(tiny.to_toml(spec))
    return _run([str(REPO / ".venv" / "bin" / "tunec"), "check", "run.toml"], folder, {})


def run_trl(folder: Path, left: list[Mistake], venv: Path) -> tuple[float, str]:
    """Run TRL's SFT script with its YAML configuration."""
    settings: Settings = {
        "model_name_or_path": "model",
        "train_file": "data/chat.jsonl",
        "eval_file": "data/more.jsonl",
        "output_dir": "out-trl",
        "use_peft": True,
        "lora_r": 4,
        "max_length": 128,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "per_device_train_batch_size": 2,
    }
    for mistake in left:
        settings |= mistake.trl
    return _run(
        [
            str(venv / "bin" / "python"),
            str(REPO / "benchmarks" / "mistakes_trl.py"),
            json.dumps(settings),
        ],
        folder,
        {},
    )


def run_llamafactory(folder: Path, left: list[Mistake], venv: Path) -> tuple[float, str]:
    """Run LLaMA-Factory with its YAML configuration."""
    settings: Settings = {
        "model_name_or_path": "model",
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "template": "chatml",
        "dataset": "chat,more",
        "dataset_dir": "data",
        "output_dir": "out-lf",
        "cutoff_len": 128,
        "lora_rank": 4,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 2,
        "report_to": "none",
        "use_cpu": True,
        "overwrite_output_dir": True,
    }
    for mistake in left:
        settings |= mistake.llamafactory
    if settings.pop("bad_rows", False):
        settings["dataset"] = str(settings["dataset"]).replace("chat", "bad")
    # JSON is YAML; the tool wants the ending.
    (folder / "lf.yaml").write_text(json.dumps(settings))
    command = [str(venv / "bin" / "llamafactory-cli"), "train", "lf.yaml"]
    return _run(command, folder, {"DISABLE_VERSION_CHECK": "1"})


def _run(command: list[str], folder: Path, environ: Mapping[str, str]) -> tuple[float, str]:
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    started = time.perf_counter()
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env={**os.environ, **offline, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    return time.perf_counter() - started, _without_echo(done.stdout)


def _without_echo(text: str) -> str:
    """Leave out lines that only repeat the configuration or the command's help: they name everything."""
    echoes = ("usage:", "[--", "TrainingArguments(", "SFTConfig(", "Seq2SeqTrainingArguments(")
    lines = [line for line in text.splitlines() if not line.strip().startswith(echoes)]
    return "\n".join(line for line in lines if not re.match(r"^\s*\w+=[^ ]*,$", line))


TUNEC = """
[run]
output_dir = "out-tunec"
[model]
path = "model"
[data]
max_length = 128
[[data.sources]]
format = "messages"
path = "data/chat.jsonl"
[[data.sources]]
format = "messages"
path = "data/more.jsonl"
[method]
type = "lora"
rank = 4
[training]
steps = 1
learning_rate = 1e-3
precision = "fp32"
[batch]
micro_size = 2
accumulation_steps = 1
[launch]
device = "cpu"
"""


def _table(outcomes: dict[str, Outcome]) -> str:
    rows = [
        [
            name,
            f"{outcome.seconds[0]:.2f}",
            str(len(outcome.reported[0])),
            str(len(outcome.seconds)),
            f"{sum(outcome.seconds):.1f}",
            str(len(outcome.left)),
        ]
        for name, outcome in outcomes.items()
    ]
    header = [
        "tool",
        "s to first error",
        "named in the first run",
        "runs",
        "s in all",
        "never named",
    ]
    return table(header, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trl", type=Path, metavar="VENV", help="environment with TRL")
    parser.add_argument("--llamafactory", type=Path, metavar="VENV", help="one with LLaMA-Factory")
    parser.add_argument("--verbose", action="store_true", help="print the end of the last output")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    return parser


if __name__ == "__main__":
    main()
