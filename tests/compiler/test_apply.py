"""Applying: nothing of the user's is written over, every file is whole, and the manifest is the last of them."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunec.compiler.apply import ApplyError, Change, apply, check, compare
from tunec.compiler.facts.folder import read_folder
from tunec.compiler.pipeline import analyse, plan_of
from tunec.compiler.render import render_files

OTHER_RATE = "[training]\nlearning_rate = 5e-3\n"


@pytest.fixture
def rendered(workspace: Path) -> Callable[..., dict[str, str]]:
    """Return the files of a spec laid over the base."""

    def render(text: str = "") -> dict[str, str]:
        analysis = analyse(tiny.write_spec(workspace / "spec.toml", text), {})
        assert analysis.ok, analysis.diagnostics
        return render_files(plan_of(analysis))

    return render


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "run"


def marks(files: dict[str, str], run_dir: Path) -> dict[str, str]:
    """Return what applying would do, by file."""
    return {c.name: c.change.value for c in compare(files, read_folder(run_dir))}


def on_disk(run_dir: Path) -> dict[str, str]:
    """Return the files of a folder, hidden ones too."""
    return {path.name: path.read_text() for path in run_dir.iterdir()}


def start(run_dir: Path) -> None:
    """Leave what a started run leaves."""
    (run_dir / "metrics.jsonl").write_text('{"step": 1}\n')


# --- comparing -------------------------------------------------------------------------------------------


def test_marks(rendered: Callable[..., dict[str, str]], run_dir: Path) -> None:
    """+ new, = as it is, ~ rewritten, ! changed by hand."""
    files = rendered()
    assert set(marks(files, run_dir).values()) == {"+"}
    apply(files, run_dir)
    assert set(marks(files, run_dir).values()) == {"="}
    later = rendered(OTHER_RATE)
    assert {name for name, mark in marks(later, run_dir).items() if mark == "~"} == {
        "train.py",
        "spec.toml",
        "manifest.json",
    }
    (run_dir / "train.py").write_text("print('mine')\n")
    (run_dir / "export.py").unlink()
    assert marks(later, run_dir)["train.py"] == "!"
    assert marks(later, run_dir)["export.py"] == "+"


def test_a_file_of_somebody_else_is_not_ours(
    rendered: Callable[..., dict[str, str]], run_dir: Path
) -> None:
    """A file that no manifest of ours records was not written by us, whatever its name."""
    (run_dir / "chat.py").mkdir(parents=True)
    (run_dir / "train.py").write_text("print('mine')\n")
    found = marks(rendered(), run_dir)
    assert (found["train.py"], found["chat.py"], found["launch.sh"]) == ("!", "!", "+")


# --- refusing --------------------------------------------------------------------------------------------


def test_edits_are_kept_without_force(
    rendered: Callable[..., dict[str, str]], run_dir: Path
) -> None:
    """A file changed by hand is named and kept; --force gives it up."""
    files = rendered()
    apply(files, run_dir)
    (run_dir / "deepspeed.json").write_text("{}")
    folder = read_folder(run_dir)
    with pytest.raises(ApplyError) as refused:
        check(files, folder, force=False, replace_run=False)
    assert refused.value.message == (
        f"deepspeed.json in {run_dir} was changed by hand since it was compiled"
    )
    assert refused.value.help == "move the change into the spec, or give it up with --force"
    assert refused.value.code == 4
    check(files, folder, force=True, replace_run=False)
    apply(files, run_dir)
    assert on_disk(run_dir) == files


def test_an_edit_that_says_the_same_is_no_edit(
    rendered: Callable[..., dict[str, str]], run_dir: Path
) -> None:
    """Only the content counts: a file saved again without a change is as it was."""
    files = rendered()
    apply(files, run_dir)
    (run_dir / "train.py").write_text(files["train.py"])
    check(files, read_folder(run_dir), force=False, replace_run=False)


def test_an_existing_run_is_not_turned_into_another(
    rendered: Callable[..., dict[str, str]], run_dir: Path
) -> None:
    """Once a run has started, a changed spec is refused with the difference; --overwrite starts anew."""
    apply(rendered(), run_dir)
    start(run_dir)
    files = rendered(OTHER_RATE + '[method]\ntargets = ["q_proj"]\n')
    folder = read_folder(run_dir)
    with pytest.raises(ApplyError) as refused:
        check(files, folder, force=True, replace_run=False)
    first, *difference = refused.value.message.splitlines()
    assert first == f"{run_dir} holds a run of another spec"
    assert "  training.learning_rate: 0.01 there, 0.005 now" in difference
    assert any(line.startswith("  method.targets: ['down_proj', ") for line in difference)
    assert len(difference) == 2
    assert "`tunec train --overwrite`" in refused.value.help
    check(files, folder, force=False, replace_run=True)


def test_a_run_that_has_not_started_may_change(
    rendered: Callable[..., dict[str, str]], run_dir: Path
) -> None:
    """Compiling again and again is free until something was trained."""
    apply(rendered(), run_dir)
    check(rendered(OTHER_RATE), read_folder(run_dir), force=False, replace_run=False)


def test_after_training_chat_and_export_may_change(
    rendered: Callable[..., dict[str, str]], run_dir: Path
) -> None:
    """Settings that do not touch the training are followed: the run stays the run it was."""
    apply(rendered(), run_dir)
    start(run_dir)
    files = rendered('[generation]\ntemperature = 0.1\n[export]\ndtype = "bf16"\n')
    check(files, read_folder(run_dir), force=False, replace_run=False)


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_a_lost_spec_is_no_fault(
    damage: str, rendered: Callable[..., dict[str, str]], run_dir: Path
) -> None:
    """Without the old spec the refusal stands, and says why it cannot name the difference."""
    apply(rendered(), run_dir)
    start(run_dir)
    (run_dir / "spec.toml").unlink()
    if damage == "broken":
        (run_dir / "spec.toml").write_text("[")
    with pytest.raises(ApplyError, match=r"its spec.toml cannot be read"):
        check(rendered(OTHER_RATE), read_folder(run_dir), force=True, replace_run=False)


# --- writing ---------------------------------------------------------------------------------------------


def test_what_is_written(rendered: Callable[..., dict[str, str]], run_dir: Path) -> None:
    """Missing folders are made, exactly the files are there, and the script can be run."""
    files = rendered()
    run_dir = run_dir / "deep" / "er"
    apply(files, run_dir)
    assert on_disk(run_dir) == files
    assert os.access(run_dir / "launch.sh", os.X_OK)
    assert not os.access(run_dir / "train.py", os.X_OK)


class Fault:
    """Stands in for a function and fails at its n-th call."""

    def __init__(self, real: Callable[..., Any], at: int, number: int) -> None:
        """Remember what to do when."""
        self.real, self.at, self.number, self.calls = real, at, number, []  # type: ignore[var-annotated]

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Fail or pass the call on."""
        self.calls.append(args)
        if len(self.calls) - 1 == self.at:
            raise OSError(self.number, os.strerror(self.number))
        return self.real(*args, **options)


def failure(files: dict[str, str], run_dir: Path) -> str | None:
    """Apply and return the message of the failure, if any."""
    try:
        apply(files, run_dir)
    except ApplyError as fault:
        return fault.message
    return None


STEPS = [(tempfile, "mkstemp"), (os, "fsync"), (os, "replace")]


@pytest.mark.parametrize(("module", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("at", range(7))
def test_a_fault_leaves_whole_files(
    module: Any,
    name: str,
    at: int,
    rendered: Callable[..., dict[str, str]],
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever fails and when: each file is the old or the new one, nothing is left aside, all can be done again."""
    before, after = rendered(), rendered(OTHER_RATE + "[generation]\ntemperature = 0.1\n")
    apply(before, run_dir)
    fault = Fault(getattr(module, name), at, errno.ENOSPC)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fault)
        failed = failure(after, run_dir)
    assert failed == (
        f"cannot write to {run_dir}: no space left on device" if len(fault.calls) > at else None
    )
    found = on_disk(run_dir)
    assert set(found) == set(after)
    assert all(text in (before[name], after[name]) for name, text in found.items())
    if name != "replace" and len(fault.calls) > at:
        assert found == before
    if found["manifest.json"] == after["manifest.json"]:
        assert found == after
    apply(after, run_dir)
    assert on_disk(run_dir) == after


@pytest.mark.parametrize(("module", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_fault_in_an_empty_folder_leaves_it_empty(
    module: Any,
    name: str,
    at: int,
    rendered: Callable[..., dict[str, str]],
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A first compilation that fails leaves no files that the next one would take for somebody else's."""
    files = rendered()
    with monkeypatch.context() as patch:
        patch.setattr(module, name, Fault(getattr(module, name), at, errno.EIO))
        with pytest.raises(ApplyError, match="input/output error"):
            apply(files, run_dir)
    assert on_disk(run_dir) == {}
    assert not read_folder(run_dir).foreign


def test_the_manifest_is_put_in_place_last(
    rendered: Callable[..., dict[str, str]], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files are complete aside before the first is put in place, and the manifest closes the set."""
    order: list[str] = []
    for module, name in STEPS:
        real = getattr(module, name)

        def note(*args: Any, _name: str = name, _real: Any = real, **options: Any) -> Any:
            order.append(Path(args[1]).name if _name == "replace" else _name)
            return _real(*args, **options)

        monkeypatch.setattr(module, name, note)
    files = dict(reversed(rendered().items()))
    apply(files, run_dir)
    assert order[: 2 * len(files)] == ["mkstemp", "fsync"] * len(files)
    assert order[2 * len(files) :][-1] == "manifest.json"
    assert set(order[2 * len(files) :]) == set(files)


def test_a_folder_that_cannot_be_made(
    rendered: Callable[..., dict[str, str]], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the way, or a folder that may not be written, is a message and exit code 3."""
    run_dir.touch()
    with pytest.raises(ApplyError) as refused:
        apply(rendered(), run_dir)
    assert refused.value.message == f"cannot write to {run_dir}: file exists"
    assert refused.value.code == 3
    run_dir.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", Fault(tempfile.mkstemp, 0, errno.EACCES))
        with pytest.raises(ApplyError, match="permission denied") as refused:
            apply(rendered(), run_dir)
    assert refused.value.help == "name another `run.output_dir`"


def test_a_full_disk_says_so(
    rendered: Callable[..., dict[str, str]], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The help for a full disk is to free space."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Fault(os.fsync, 2, errno.ENOSPC))
        with pytest.raises(ApplyError) as refused:
            apply(rendered(), run_dir)
    assert refused.value.help == "free some space, or name another `run.output_dir`"


def test_a_folder_in_place_of_a_file(
    rendered: Callable[..., dict[str, str]], run_dir: Path
) -> None:
    """A folder called train.py is never removed, not even with --force."""
    (run_dir / "train.py" / "mine").mkdir(parents=True)
    with pytest.raises(ApplyError, match="is a directory"):
        apply(rendered(), run_dir)
    assert (run_dir / "train.py" / "mine").is_dir()
    assert not (run_dir / "manifest.json").exists()


def test_the_manifest_tells_the_edits(
    rendered: Callable[..., dict[str, str]], run_dir: Path
) -> None:
    """A manifest edited by hand protects nothing less: what it does not vouch for counts as edited."""
    files = rendered()
    apply(files, run_dir)
    manifest = json.loads(files["manifest.json"])
    manifest["files"] = {}
    (run_dir / "manifest.json").write_text(json.dumps(manifest))
    found = {c.name: c.change for c in compare(rendered(OTHER_RATE), read_folder(run_dir))}
    assert found["train.py"] is Change.EDITED
    assert found["launch.sh"] is Change.SAME
