"""Whole runs on streams: the numbers of prepared runs, on any number of processes, also interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

import runs
import tiny
from tunec.runtime.errors import ExitCode

pytestmark = pytest.mark.heavy

SPEC = """
[run]
output_dir = "runs/{name}"
[data]
{data}
[method]
type = "lora"
rank = 4
dropout = {dropout}
[training]
steps = {steps}
[batch]
global_size = 4
micro_size = {micro}
[deepspeed]
zero_stage = 2
[checkpoints]
every_steps = 4
[launch]
processes = {processes}
grace_s = 60
"""
DEFAULTS = {"dropout": "0.0", "micro": "2", "processes": "1", "steps": "8"}
STREAM = "streaming = true\nshuffle_buffer = 8\n"


def compiled(workspace: Path, name: str, data: str, **values: str) -> Path:
    text = SPEC.format(name=name, data=data, **{**DEFAULTS, **values})
    spec = tiny.write_over(workspace / f"{name}.toml", text)
    done = runs.tunec("compile", str(spec))
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace / "runs" / name


def trained(workspace: Path, name: str, data: str, **values: str) -> Path:
    run_dir = compiled(workspace, name, data, **values)
    done = runs.launch(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    return run_dir


def test_it_trains_as_prepared_data_do(workspace: Path) -> None:
    """Without a shuffle, a stream gives the losses of prepared data in the order of the files, epoch after epoch."""
    prepared = trained(workspace, "prepared", "shuffle = false\n", steps="14")
    for name, more in (("stream", {}), ("two", {"processes": "2", "micro": "1"})):
        run_dir = trained(
            workspace, name, "streaming = true\nshuffle = false\n", steps="14", **more
        )
        assert runs.losses(run_dir) == pytest.approx(runs.losses(prepared), rel=1e-5)
        tokens = [[row.get("tokens") for row in runs.metrics(run)] for run in (run_dir, prepared)]
        assert tokens[0] == tokens[1]
        # What is read is in the report, and nothing else is left of the stream.
        report = json.loads((run_dir / "report.json").read_text())["data"]
        assert report["sources"][0]["read"] >= 56
        assert runs.metrics(run_dir)[6]["epoch"] == 1
        assert not list((run_dir / "stream").glob("chunk-*"))


@pytest.mark.parametrize("packing", ["off", "padding-free", "isolated"])
def test_any_number_of_processes(workspace: Path, packing: str) -> None:
    """Shuffled, held out, packed: one process and two train the same."""
    data = f'{STREAM}eval_rows = 3\npacking = "{packing}"\n'
    one = trained(workspace, "one", data)
    two = trained(workspace, "two", f"{data}loader_workers = 1\n", processes="2", micro="1")
    assert runs.losses(two) == pytest.approx(runs.losses(one), rel=2e-5)
    reports = [json.loads((run / "report.json").read_text()) for run in (one, two)]
    assert reports[1]["eval_loss"] == pytest.approx(reports[0]["eval_loss"], rel=2e-5)
    assert len({json.dumps(report["data"]) for report in reports}) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_it_resumes_to_the_same_bits(workspace: Path, tmp_path: Path, processes: int) -> None:
    """A killed run, resumed, equals the uninterrupted one in every number and every weight, dropout included."""
    shape = {"dropout": "0.2", "steps": "60", "processes": str(processes), "micro": "1"}
    data = f"{STREAM}eval_rows = 3\n"
    whole = tmp_path / "whole"
    shutil.move(trained(workspace, "run", data, **shape), whole)
    run_dir = compiled(workspace, "run", data, **shape)
    process = runs.start(run_dir)
    runs.wait_until(
        lambda: (run_dir / "checkpoints" / "step-8").exists() or process.poll() is not None
    )
    rank = runs.rank_pid(run_dir, processes - 1)
    assert rank is not None
    runs.kill(rank, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == ExitCode.LOST, output
    assert runs.processes_of(run_dir) == []
    resumed = runs.tunec("train", str(workspace / "run.toml"), "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert runs.exact_numbers(run_dir) == runs.exact_numbers(whole)
    assert runs.weights_digest(run_dir) == runs.weights_digest(whole)


def producer_of(run_dir: Path) -> int | None:
    try:
        return int(json.loads((run_dir / "stream" / "producer.json").read_text())["pid"])
    except (OSError, ValueError):
        return None


def test_a_killed_producer_ends_the_run(workspace: Path) -> None:
    """The run ends with a line that says what was lost, and goes on from there."""
    run_dir = compiled(workspace, "run", STREAM, steps="3000", processes="2", micro="1")
    process = runs.start(run_dir)
    runs.wait_until(
        lambda: (run_dir / "checkpoints" / "step-4").exists() or process.poll() is not None
    )
    producer = producer_of(run_dir)
    assert producer is not None
    os.kill(producer, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == ExitCode.LOST, output
    assert "error: the process that reads the data was killed by SIGKILL" in output
    assert "`--resume` continues from step-" in output
    assert "Traceback" not in output
    assert runs.processes_of(run_dir) == []


def test_a_bad_row_ends_the_run(workspace: Path) -> None:
    """Before the training in its first chunk, during it later: one line with the place, and the code for data."""
    data = "streaming = true\nshuffle = false\nworkers = 1\nmax_length = 256\n"
    path = tiny.write_chats(workspace / "data" / "chat.jsonl", 5000)
    late, early = (compiled(workspace, name, data, steps="3000") for name in ("late", "early"))
    lines = path.read_text().splitlines()
    lines[4700] = tiny.BAD_ROW
    path.write_text("\n".join(lines) + "\n")
    done = runs.launch(late)
    assert done.returncode == ExitCode.DATA, done.stdout + done.stderr
    assert done.stderr.count("chat.jsonl:4701: ") == 1
    assert "Traceback" not in done.stderr
    assert runs.losses(late)
    path.write_text(tiny.BAD_ROW + "\n")
    done = runs.launch(early)
    assert done.returncode == ExitCode.DATA, done.stdout + done.stderr
    assert "chat.jsonl:1: " in done.stderr
    assert not (early / "metrics.jsonl").exists()


def test_a_stopped_run_has_its_last_step(workspace: Path) -> None:
    """Asked to stop, the whole group at once, the ranks finish their step: the data do not go away under them."""
    run_dir = compiled(workspace, "run", STREAM, steps="3000", processes="2", micro="1")
    process = runs.start(run_dir)
    runs.wait_until(
        lambda: (run_dir / "checkpoints" / "step-4").exists() or process.poll() is not None
    )
    for pid in (producer_of(run_dir), process.pid):
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == ExitCode.RESUMABLE, output
    assert runs.processes_of(run_dir) == []
