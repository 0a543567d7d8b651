"""Generated tokens per second of GRPO's rollouts, and of a plain `generate` loop over the same prompts.

    .venv/bin/python benchmarks/rollout_speed.py
    .venv/bin/python benchmarks/rollout_speed.py --method lora --tokens 128

Each is a process of its own, in turn, with the same model (its adapter included), the same batches of prompts, KV cache,
temperature 1, and answers of at most `--tokens` tokens. tunec's number is what its report says: weights, random numbers,
end marks and the exchange between processes are in it, rewards and training are not. The loop counts `generate` alone.
"""

# mypy finds tunec only where MYPYPATH lays it out, as the tests do.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import REPO, WORK, compile_and_prepare, machine, measured_on, median_ratio, table

FOLDER = WORK / "rollout_speed"
PROMPTS = REPO / "examples" / "online" / "data" / "prompts.jsonl"
RANK = 8
SPEC = """
[run]
output_dir = "run"
[model]
path = {model}
[data]
max_length = 128
shuffle = false
sources = [{{ format = "prompt", path = {prompts} }}]
[objective]
type = "grpo"
group_size = {group}
rewards = [{{ type = "function", path = "rewards.py" }}]
[generation]
max_new_tokens = {tokens}
temperature = 1.0
top_p = 1.0
[method]
{method}
[training]
steps = {rollouts}
learning_rate = 1e-9
precision = "fp32"
gradient_checkpointing = false
[batch]
global_size = {answers}
micro_size = 8
[launch]
device = "cpu"
processes = 1
[deepspeed]
zero_stage = 0
[checkpoints]
every_steps = 0
[logging]
plot = false
"""
METHODS = {"lora": f'type = "lora"\nrank = {RANK}', "full": 'type = "full"'}


def main() -> None:
    """Measure and print."""
    options = _parser().parse_args()
    if options.plain is not None:
        _plain(options)
        return
    facts = machine()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    _prepare(options)
    rates: dict[str, list[float]] = {"plain generate": [], "tunec": []}
    for number in range(options.rounds):
        for name in list(rates) if number % 2 else reversed(list(rates)):
            rates[name].append(_by_loop(options) if name != "tunec" else _by_run())
            print(f"round {number + 1}  {name}: {rates[name][-1]:.1f} tokens/s", file=sys.stderr)
    print(_text(facts, options, rates))


def _prepare(options: argparse.Namespace) -> None:
    text = SPEC.format(
        model=json.dumps(str(options.model.absolute())),
        prompts=json.dumps(str(PROMPTS)),
        group=options.group,
        tokens=options.tokens,
        rollouts=options.rollouts,
        answers=options.answers,
        method=METHODS[options.method],
    )
    (FOLDER / "spec.toml").write_text(text, encoding="utf-8")
    rewards = "def reward(answers):\n    return [float(len(answer)) for answer in answers]\n"
    (FOLDER / "rewards.py").write_text(rewards, encoding="utf-8")
    compile_and_prepare(FOLDER / "spec.toml")


def _by_run() -> float:
    """Return what the report of a run says."""
    env = {**os.environ, "TUNEC_PYTHON": sys.executable}
    command = [str(FOLDER / "run" / "launch.sh"), "--overwrite"]
    with (FOLDER / "log.txt").open("wb") as log:
        subprocess.run(command, check=True, env=env, stdout=log, stderr=subprocess.STDOUT)
    report = json.loads((FOLDER / "run" / "report.json").read_text(encoding="utf-8"))
    return float(report["generated_tokens_per_s"])


def _by_loop(options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--plain", str(FOLDER / "plain.json")]
    for name in ("model", "method", "tokens", "rollouts", "answers", "group"):
        command += [f"--{name}", str(getattr(options, name))]
    subprocess.run(command, check=True, stdout=2)
    return float(json.loads((FOLDER / "plain.json").read_text(encoding="utf-8")))


def _plain(options: argparse.Namespace) -> None:
    """Generate for the same prompts by transformers alone, and write the tokens per second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunec.runtime import data

    torch.manual_seed(0)
    samples, _ = data.load(FOLDER / "run")
    rows = [list(sample.input_ids) for sample in samples]
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    if options.method == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(task_type="CAUSAL_LM", r=RANK, target_modules="all-linear")
        model = get_peft_model(model, config)
    model.eval()
    each, end = options.answers // options.group, int(tokenizer.eos_token_id)
    tokens, seconds = 0, 0.0
    for number in range(options.rollouts):
        prompts = rows[number * each : (number + 1) * each]
        asked = [row for row in prompts for _ in range(options.group)]
        inputs = tokenizer.pad({"input_ids": asked}, return_tensors="pt")
        started = time.perf_counter()
        with torch.no_grad():
            made = model.generate(
                **inputs,
                do_sample=True,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                max_new_tokens=options.tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        seconds += time.perf_counter() - started
        for answer in made[:, inputs["input_ids"].shape[1] :].tolist():
            tokens += answer.index(end) + 1 if end in answer else len(answer)
    options.plain.write_text(json.dumps(tokens / seconds), encoding="utf-8")


def _text(facts: Any, options: argparse.Namespace, rates: dict[str, list[float]]) -> str:
    base = rates["plain generate"]
    rows = [
        [name, f"{statistics.median(found):.1f}", f"{median_ratio(found, base):.2f}"]
        for name, found in rates.items()
    ]
    return (
        f"{measured_on(facts)}; {options.model.name}, {options.method}, fp32, {options.rollouts} rollouts of "
        f"{options.answers} answers to {options.answers // options.group} prompts, up to {options.tokens} tokens each; "
        f"{options.rounds} rounds, medians\n\n{table(['', 'tokens/s', '/ plain'], rows)}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=REPO / "models" / "smollm2-135m", help="folder of the model")
    add("--method", choices=list(METHODS), default="full", help="what is trained (default: full)")
    add("--tokens", type=int, default=64, help="most tokens of an answer (default: 64)")
    add("--rollouts", type=int, default=3, help="rollouts of a run (default: 3)")
    add("--answers", type=int, default=16, help="answers of a rollout (default: 16)")
    add("--group", type=int, default=4, help="answers to a prompt (default: 4)")
    add("--rounds", type=int, default=3, help="runs of each (default: 3)")
    add("--plain", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
