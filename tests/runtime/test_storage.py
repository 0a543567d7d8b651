"""Durable files: what is on disk after any failing call is the old state or the new one."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tunec.runtime import storage
from tunec.runtime.errors import ExitCode, UserError

SEAMS = ("_open_new", "_write", "_fsync", "_rename")


def commit(checkpoints: Path, step: int, text: str = "weights") -> Path:
    """Save a small checkpoint with two files, one in a folder."""
    final = checkpoints / f"step-{step}"
    staging = storage.staging_directory(final)
    (staging / "model.bin").write_text(f"{text} {step}")
    (staging / "optimizer").mkdir()
    (staging / "optimizer" / "rank-0.bin").write_text(f"moments {step}")
    storage.commit_directory(staging, final, {"step": step})
    return final


class Faults:
    """Counts the calls that change the disk and acts at the n-th one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int, act: Callable[[], None]) -> None:
        self.n, self.act, self.count = n, act, 0
        for name in SEAMS:
            monkeypatch.setattr(storage, name, self.wrap(getattr(storage, name)))

    def wrap(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            self.count += 1
            if self.count == self.n:
                self.act()
            return real(*args)

        return call


def raise_errno(number: int) -> Callable[[], None]:
    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act


def code_of(call: Callable[[], object]) -> ExitCode:
    """Return the code of the `UserError` that a call raises, or OK."""
    try:
        call()
    except UserError as error:
        return error.code
    return ExitCode.OK


def test_write_replaces_all_at_once(tmp_path: Path) -> None:
    """A written file has the new content and nothing else is left in the folder."""
    path = tmp_path / "a.json"
    storage.write_text(path, "old")
    storage.write_json(path, {"b": 1, "a": "ä"})
    assert json.loads(path.read_text()) == {"a": "ä", "b": 1}
    assert path.read_text().index('"a"') < path.read_text().index('"b"')
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_refuses_nan(tmp_path: Path) -> None:
    """What JSON cannot say is an error and leaves no file."""
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that takes only a part of the data is continued."""
    monkeypatch.setattr(storage, "_write", lambda fd, data: os.write(fd, data[:3]))
    storage.write_bytes(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_file_survives_every_failing_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whichever call fails, the file has the old or the new content and no temporary file stays."""
    path = tmp_path / "a"
    for n in range(1, 100):
        storage.write_bytes(path, b"old")
        with monkeypatch.context() as patch:
            faults = Faults(patch, n, raise_errno(number))
            code = code_of(lambda: storage.write_bytes(path, b"new"))
        assert code == (ExitCode.OK if faults.count < n else ExitCode.ENVIRONMENT)
        assert path.read_bytes() in (b"old", b"new")
        assert os.listdir(tmp_path) == ["a"]
        if faults.count < n:
            assert path.read_bytes() == b"new"
            return
    pytest.fail("the write never went through")


def test_committed_directory_is_verified(tmp_path: Path) -> None:
    """A committed folder gives its meta back, shallow and deep."""
    final = commit(tmp_path, 3)
    for deep in (False, True):
        assert storage.verify_directory(final, deep=deep) == storage.Committed(final, {"step": 3})
    assert sorted(os.listdir(tmp_path)) == ["step-3"]


def test_everything_is_synced_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and folder is synced before the rename, and the parent after it."""
    events: list[str] = []
    real_rename = storage._rename

    def rename(source: Path, target: Path) -> None:
        events.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(
        storage, "_fsync", lambda fd: events.append(os.readlink(f"/proc/self/fd/{fd}"))
    )
    monkeypatch.setattr(storage, "_rename", rename)
    commit(tmp_path, 1)
    staging = tmp_path / ".step-1.tmp"
    at = events.index("rename")
    names = ("model.bin", "optimizer/rank-0.bin", "MANIFEST.json", "optimizer", "")
    assert {str(staging / name) for name in names} <= set(events[:at])
    assert events[at + 1 :] == [str(tmp_path)]


def damage_nothing(final: Path) -> None:
    (final / "extra").write_text("ignored")


def damage_missing(final: Path) -> None:
    (final / "model.bin").unlink()


def damage_torn(final: Path) -> None:
    os.truncate(final / "model.bin", 2)


def damage_changed(final: Path) -> None:
    (final / "model.bin").write_text("WEIGHTS 1")


def damage_no_manifest(final: Path) -> None:
    (final / "MANIFEST.json").unlink()


def damage_torn_manifest(final: Path) -> None:
    os.truncate(final / "MANIFEST.json", 40)


def damage_empty_manifest(final: Path) -> None:
    os.truncate(final / "MANIFEST.json", 0)


def damage_edited_manifest(final: Path) -> None:
    path = final / "MANIFEST.json"
    path.write_text(path.read_text().replace('"step": 1', '"step": 7'))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_missing, "model.bin is missing"),
        (damage_torn, "model.bin is torn: 2 bytes of 9"),
        (damage_changed, "model.bin was changed"),
        (damage_no_manifest, "MANIFEST.json is missing"),
        (damage_torn_manifest, "MANIFEST.json is torn"),
        (damage_empty_manifest, "MANIFEST.json is torn"),
        (damage_edited_manifest, "MANIFEST.json was changed"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    """Each damage is told in one line with the file, and the folder no longer counts."""
    commit(tmp_path, 1)
    older = commit(tmp_path, 0)
    damage(tmp_path / "step-1")
    with pytest.raises(UserError) as caught:
        storage.verify_directory(tmp_path / "step-1", deep=True)
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.code == ExitCode.CHECKPOINT
    skipped: list[str] = []
    found = storage.newest_committed(tmp_path, deep=True, skipped=skipped)
    assert found is not None
    assert found.path == older
    assert skipped == [caught.value.message]


def test_manifest_cannot_point_outside(tmp_path: Path) -> None:
    """A manifest that names a file outside its folder is damaged."""
    final = commit(tmp_path, 1)
    (tmp_path / "secret").write_text("x")
    body = json.loads((final / "MANIFEST.json").read_text())
    body.pop("digest")
    body["files"] = [{"path": "../secret", "size": 1, "sha256": ""}]
    body["digest"] = storage._digest(body)
    (final / "MANIFEST.json").write_text(json.dumps(body))
    with pytest.raises(UserError, match="outside"):
        storage.verify_directory(final, deep=False)


def test_newest_goes_by_number(tmp_path: Path) -> None:
    """Step 10 is newer than step 9 whatever the clock says; other names do not count."""
    for step in (10, 9):
        commit(tmp_path, step)
    (tmp_path / "step-99x").mkdir()
    (tmp_path / ".step-100.tmp").mkdir()
    found = storage.newest_committed(tmp_path)
    assert found is not None
    assert found.path.name == "step-10"
    assert storage.newest_committed(tmp_path / "none") is None


def test_complete_checkpoint_is_never_replaced(tmp_path: Path) -> None:
    """A complete folder stays as it is; a damaged one gives way."""
    final = commit(tmp_path, 1)
    with pytest.raises(UserError, match="exists already"):
        commit(tmp_path, 1, "other")
    assert (final / "model.bin").read_text() == "weights 1"
    damage_torn(final)
    commit(tmp_path, 1, "other")
    assert (final / "model.bin").read_text() == "other 1"
    assert os.listdir(tmp_path) == ["step-1"]


def test_links_are_refused(tmp_path: Path) -> None:
    """A link in the staging folder would make a checkpoint that depends on other files."""
    staging = storage.staging_directory(tmp_path / "step-1")
    (staging / "model.bin").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="no regular file"):
        storage.commit_directory(staging, tmp_path / "step-1", {})
    assert os.listdir(tmp_path) == []


def prepare(tmp_path: Path, n: int) -> Path:
    folder = tmp_path / f"n{n}"
    commit(folder, 10)
    commit(folder, 20)
    damage_torn(folder / "step-20")
    return folder


def check_loadable(folder: Path, saved: bool) -> None:
    """The newest complete checkpoint is the old or the new one, and the save can be repeated."""
    found = storage.newest_committed(folder, deep=True)
    assert found is not None
    assert found.path.name in (("step-20",) if saved else ("step-10", "step-20"))
    assert (found.path / "model.bin").read_text() == f"weights {found.meta['step']}"
    if found.path.name == "step-10":
        commit(folder, 20)
    storage.prune(folder, 1, set())
    assert os.listdir(folder) == ["step-20"]
    storage.verify_directory(folder / "step-20", deep=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_checkpoint_survives_every_failing_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whichever call fails, the save says so, its staging folder is gone, and a checkpoint is loadable."""
    for n in range(1, 200):
        folder = prepare(tmp_path, n)
        with monkeypatch.context() as patch:
            faults = Faults(patch, n, raise_errno(number))
            code = code_of(partial(commit, folder, 20))
        failed = faults.count >= n
        assert code == (ExitCode.CHECKPOINT if failed else ExitCode.OK)
        assert not (folder / ".step-20.tmp").exists()
        check_loadable(folder, saved=not failed)
        if not failed:
            assert n > 10
            return
    pytest.fail("the save never went through")


def test_checkpoint_survives_a_kill_at_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process killed before any call leaves a loadable checkpoint, and the next save works."""
    for n in range(1, 200):
        folder = prepare(tmp_path, n)
        pid = os.fork()
        if pid == 0:
            try:
                Faults(monkeypatch, n, lambda: os._exit(137))
                commit(folder, 20)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, 137)
        check_loadable(folder, saved=status == 0)
        if status == 0:
            return
    pytest.fail("the save never went through")


def test_prune_keeps_the_newest_and_the_protected(tmp_path: Path) -> None:
    """Old checkpoints go, and so do damaged ones and what killed saves left."""
    for step in range(1, 7):
        commit(tmp_path, step)
    damage_torn(tmp_path / "step-3")
    damage_torn(tmp_path / "step-6")
    storage.staging_directory(tmp_path / "step-7")
    removed = storage.prune(tmp_path, 2, {tmp_path / "step-1"})
    assert sorted(os.listdir(tmp_path)) == ["step-1", "step-4", "step-5", "step-6"]
    assert sorted(path.name for path in removed) == ["step-2", "step-3"]


def test_prune_never_leaves_nothing(tmp_path: Path) -> None:
    """With only damaged folders nothing is removed, and a negative count is an error."""
    commit(tmp_path, 1)
    with pytest.raises(ValueError, match="not be negative"):
        storage.prune(tmp_path, -1, set())
    damage_torn(tmp_path / "step-1")
    assert storage.prune(tmp_path, 1, set()) == []
    assert (tmp_path / "step-1").is_dir()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/0"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk_is_recognized(tmp_path: Path, error: Exception) -> None:
    """A full disk is told with the sizes, whichever library met it."""
    with (
        pytest.raises(UserError) as caught,
        storage.disk_errors("checkpoint step-4", tmp_path, needed=3 * 2**30),
    ):
        raise error
    assert caught.value.message.startswith(
        "disk full while writing checkpoint step-4: 3.0 GiB needed, "
    )
    assert "free on the disk of" in caught.value.message
    assert caught.value.help


def test_other_errors_pass(tmp_path: Path) -> None:
    """An error that is not about the disk stays what it is."""
    with pytest.raises(PermissionError), storage.disk_errors("x", tmp_path):
        raise PermissionError(errno.EACCES, "denied")
