"""Whole runs with micro batches by tokens, loader processes and several evaluation sets: the numbers stay those they were."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import runs
import tiny
from tunec.runtime.errors import ExitCode
from tunec.runtime.training.metrics import eval_losses

pytestmark = pytest.mark.heavy

SPEC = """
[run]
output_dir = "runs/{name}"
[data]
eval_rows = 5
max_length = 128
{data}
[method]
type = "lora"
rank = 4
dropout = {dropout}
[training]
steps = {steps}
{training}
[batch]
global_size = 6
{batch}
[deepspeed]
zero_stage = {stage}
[evaluation]
every_steps = 2
[checkpoints]
every_steps = 2
[launch]
processes = {processes}
"""
DEFAULTS = {
    "batch": "micro_size = 3", "data": "", "dropout": "0.0", "stage": "2", "processes": "1", "steps": "4",
    "training": "",
}  # fmt: skip
BY_TOKENS = "micro_tokens = 140"


def compiled(workspace: Path, name: str, **values: str) -> Path:
    text = SPEC.format(name=name, **{**DEFAULTS, **values})
    spec = tiny.write_over(workspace / f"{name}.toml", text)
    done = runs.tunec("compile", str(spec))
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace / "runs" / name


def trained(workspace: Path, name: str, **values: str) -> Path:
    run_dir = compiled(workspace, name, **values)
    done = runs.launch(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    return run_dir


def assert_same_training(run_dir: Path, other: Path) -> None:
    """Losses, evaluation, token counts and final weights are equal, up to the order of sums."""
    assert runs.losses(run_dir) == pytest.approx(runs.losses(other), rel=2e-5)
    for row, expected in zip(runs.metrics(run_dir), runs.metrics(other), strict=True):
        assert row.get("tokens") == expected.get("tokens")
        assert row.get("eval_loss", 0.0) == pytest.approx(expected.get("eval_loss", 0.0), rel=2e-5)
    name = "final/adapter_model.safetensors"
    weights, wanted = load_file(run_dir / name), load_file(other / name)
    assert all(torch.allclose(weights[key], wanted[key], atol=2e-4) for key in wanted)


@pytest.mark.parametrize("stage", ["0", "1", "2", "3"])
def test_by_tokens(workspace: Path, stage: str) -> None:
    """The same samples a step give the same training however they are cut, on one and on two processes."""
    by_samples = trained(workspace, "samples", stage=stage)
    one = trained(workspace, "one", batch=BY_TOKENS, stage=stage)
    two = trained(workspace, "two", batch=BY_TOKENS, stage=stage, processes="2")
    assert_same_training(one, by_samples)
    assert_same_training(two, by_samples)


def test_by_tokens_without_padding(workspace: Path) -> None:
    """So do micro batches without padding, filled by best fit; single samples leave a process an empty one."""
    by_samples = trained(workspace, "samples")
    free = 'packing = "padding-free"'
    assert_same_training(trained(workspace, "free", batch=BY_TOKENS, data=free), by_samples)
    alone = {"batch": "micro_tokens = 128", "data": "pad_multiple = 64", "processes": "4"}
    assert_same_training(trained(workspace, "alone", stage="3", **alone), by_samples)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_resumed_with_loader_processes(workspace: Path, tmp_path: Path, processes: str) -> None:
    """A killed run by tokens, resumed, has the bits of one that was not, dropout included, whoever makes its batches."""
    shape = {"batch": BY_TOKENS, "dropout": "0.2", "steps": "6", "processes": processes}
    whole = tmp_path / "whole"
    shutil.move(trained(workspace, "run", **shape), whole)
    workers = "loader_workers = 2\nloader_prefetch = 3\nloader_persistent = true"
    run_dir = compiled(workspace, "run", data=workers, **shape)
    process = runs.start(run_dir)
    runs.wait_until(
        lambda: (run_dir / "checkpoints" / "step-2").exists() or process.poll() is not None
    )
    rank = runs.rank_pid(run_dir, 0)
    assert rank is not None
    runs.kill(rank, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == ExitCode.LOST, output
    assert runs.processes_of(run_dir) == []
    resumed = runs.tunec("train", str(workspace / "run.toml"), "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert runs.exact_numbers(run_dir) == runs.exact_numbers(whole)
    assert runs.weights_digest(run_dir) == runs.weights_digest(whole)


def test_killed_loader_process(workspace: Path) -> None:
    """A loader process that is killed ends the run with what happened and what to do, not with a wait."""
    run_dir = compiled(workspace, "run", data="loader_workers = 1", steps="5000")
    process = runs.start(run_dir)
    runs.wait_until(lambda: (run_dir / "metrics.jsonl").exists() or process.poll() is not None)
    rank = runs.rank_pid(run_dir, 0)
    assert rank is not None
    (worker,) = runs.wait_until(lambda: loaders(rank))
    runs.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == ExitCode.ENVIRONMENT, output
    assert "a process that puts batches together was killed" in output
    assert "data.loader_workers" in output
    assert "Traceback" not in output


def loaders(rank: int) -> list[int]:
    """Return the loader processes of a rank: its children that run the same program."""
    found = Path(f"/proc/{rank}/task/{rank}/children").read_text().split()
    return [int(pid) for pid in found if b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_data_seed(workspace: Path) -> None:
    """`data.seed` alone decides the order of the data: another `training.seed` changes the adapter, and nothing else."""
    first = trained(workspace, "first", data="seed = 1")
    other = trained(workspace, "other", data="seed = 1", training="seed = 5")
    third = trained(workspace, "third", data="seed = 2")
    tokens = [[row.get("tokens") for row in runs.metrics(run)] for run in (first, other, third)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert runs.losses(first)[0] == pytest.approx(runs.losses(other)[0], rel=1e-5)
    assert runs.losses(first)[0] != pytest.approx(runs.losses(third)[0], rel=1e-5)
    assert runs.weights_digest(first) != runs.weights_digest(other)


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_of_each_source(workspace: Path, processes: int) -> None:
    """Each evaluation source has its loss; the total is that of all tokens, not the mean of the means."""
    tiny.write_chats(workspace / "data" / "few.jsonl", 3, seed=1)
    tiny.write_chats(workspace / "data" / "many.jsonl", 11, seed=2)
    tiny.write_chats(workspace / "more" / "few.jsonl", 2, seed=3)
    sources = [
        {"format": "messages", "path": path}
        for path in ("data/few.jsonl", "data/many.jsonl", "more/few.jsonl")
    ]
    tables = ", ".join(
        "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in source.items()) + " }"
        for source in sources
    )
    run_dir = runs.compile_spec(
        workspace,
        f"""
        [data]
        eval_sources = [{tables}]
        [method]
        type = "full"
        [training]
        steps = 2
        [batch]
        global_size = 4
        micro_size = 1
        [evaluation]
        micro_size = 2
        [launch]
        processes = {processes}
        """,
    )
    done = runs.launch(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((run_dir / "report.json").read_text())
    each = [report["eval_losses"][name] for name in ("few", "many", "few-2")]
    prepared = json.loads((run_dir / "prepared.json").read_text())["folder"]
    sources_told = json.loads((Path(prepared) / "report.json").read_text())["sources"]
    trainable = [source["trainable"] for source in sources_told if source["evaluation"]]
    sums = [loss * count for loss, count in zip(each, trainable, strict=True)]
    assert report["eval_loss"] == pytest.approx(sum(sums) / sum(trainable), rel=1e-6)
    told = f"(few {report['eval_losses']['few']:.4f}, many {report['eval_losses']['many']:.4f}, "
    assert told in done.stdout
    (row,) = [row for row in runs.metrics(run_dir) if "eval_loss" in row]
    assert set(eval_losses(row)) == {"", "few", "many", "few-2"}


NODE = """
import os
import sys
from pathlib import Path
from tunec.runtime import session
with session.start(run_dir=Path(sys.argv[1]), seed=0) as run:
    run.connect(deepspeed=Path(sys.argv[1]) / "deepspeed.json", device="cpu", timeout_s=60)
    run.say("connected")
"""


@pytest.mark.parametrize("differ", [False, True])
def test_nodes_compare_their_data(workspace: Path, tmp_path: Path, differ: bool) -> None:
    """Two nodes that prepare on disks of their own go on where the data are equal, and say so where they are not."""
    folders = []
    for number in (0, 1):
        rows = 24 + (number if differ else 0)
        tiny.write_chats(workspace / "data" / "chat.jsonl", rows)
        run_dir = compiled(workspace, f"node{number}", data="shared_storage = false")
        done = subprocess.run(
            [sys.executable, str(run_dir / "prepare.py")],
            env={**os.environ, "TUNEC_CACHE": str(tmp_path / f"disk{number}")},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        folders.append(run_dir)
    port = 20_000 + os.getpid() % 20_000
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(NODE), str(folder)],
            env={
                **os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "DS_ACCELERATOR": "cpu",
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank, folder in enumerate(folders)
    ]  # fmt: skip
    texts = [node.communicate(timeout=180)[0] for node in nodes]
    codes = [node.returncode for node in nodes]
    if not differ:
        assert codes == [0, 0], texts
        assert "connected" in texts[0]
        return
    assert codes == [ExitCode.DATA, ExitCode.DATA], texts
    assert "holds other prepared data than rank 0 on" in texts[0]
    assert "made from other files" in texts[0]
