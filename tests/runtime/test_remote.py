"""Data that are elsewhere: behind URLs and on hubs. The servers are real, and on this machine."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pytest

from runs import tunec
from tiny import make_tokenizer, write_chats, write_spec
from tunec.runtime import data
from tunec.runtime.data.prepared import read_pointer
from tunec.runtime.data.remote import find, local_files
from tunec.runtime.errors import ExitCode, UserError
from web import Hub, Web, serving

ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
LINE = json.dumps(ROW).encode() + b"\n"
DEAD = "http://127.0.0.1:9"
"""Nobody listens at the port of the discard service."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("TUNEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server."""
    with serving(Web()) as server:
        yield server


def source(path: Path | str, **settings: Any) -> data.Messages:
    """Return a source."""
    return data.Messages(path=path, name="chats", **settings)


def refusal(path: Path | str, **settings: Any) -> str:
    """Return what is said of a source that cannot be had: one line, and perhaps the way out."""
    with pytest.raises(UserError) as caught:
        find(source(path, **settings))
    assert "\n" not in caught.value.message
    return caught.value.text()


# URLs


def test_a_file_behind_a_url_is_fetched_once(web: Web, cache: Path) -> None:
    """What did not change is not fetched again: the server is asked, and sends nothing."""
    web.files["/a/chats.jsonl"] = LINE * 3
    [first] = local_files(source(f"{web.url}/a/chats.jsonl"))
    assert first.read_bytes() == LINE * 3
    assert first.name == "chats.jsonl"
    assert first.is_relative_to(cache)
    web.asked.clear()
    assert local_files(source(f"{web.url}/a/chats.jsonl")) == [first]
    assert {line.split()[0] for line in web.asked} == {"HEAD"}


def test_a_file_that_changed_is_fetched_again(web: Web) -> None:
    """The mark that a server gives a version decides; the size alone would not tell."""
    web.files["/chats.jsonl"] = LINE
    local_files(source(f"{web.url}/chats.jsonl"))
    web.files["/chats.jsonl"] = LINE.replace(b"ho", b"he")
    [path] = local_files(source(f"{web.url}/chats.jsonl"))
    assert path.read_bytes() == LINE.replace(b"ho", b"he")


def test_a_server_without_marks_or_parts(web: Web) -> None:
    """A plain server tells no versions apart and sends whole files only: they are fetched each time."""
    web.etags = web.ranges = False
    big = LINE * 120_000
    for content in (big, big.replace(b"ho", b"he")):
        web.files["/chats.jsonl"] = content
        [path] = local_files(source(f"{web.url}/chats.jsonl"))
        assert path.read_bytes() == content


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_goes_on(web: Web, ranges: bool) -> None:
    """What came before the connection broke is kept; it is asked for again only where parts cannot be sent."""
    content = b"".join(LINE.replace(b"hi", b"%06d" % n) for n in range(200_000))
    web.files["/chats.jsonl"] = content
    web.ranges = ranges
    web.break_after = 12 * 2**20
    assert "cannot be fetched" in refusal(f"{web.url}/chats.jsonl")
    web.parts.clear()
    [path] = local_files(source(f"{web.url}/chats.jsonl"))
    assert path.read_bytes() == content
    if ranges:
        assert web.parts[0].startswith(f"bytes={8 * 2**20}-")


def test_half_a_file_of_an_older_version(web: Web) -> None:
    """What is left of a transfer belongs to one version: another is fetched from its beginning."""
    web.files["/chats.jsonl"] = LINE * 200_000
    web.break_after = 12 * 2**20
    refusal(f"{web.url}/chats.jsonl")
    web.files["/chats.jsonl"] = LINE.replace(b"ho", b"he") * 200_000
    [path] = local_files(source(f"{web.url}/chats.jsonl"))
    assert path.read_bytes() == web.files["/chats.jsonl"]


def test_compressed_and_queried(web: Web) -> None:
    """The suffix of the address tells what is in it, whatever is asked of the server behind it."""
    web.files["/chats.jsonl.gz"] = gzip.compress(LINE * 2)
    [talk, _] = data.read([source(f"{web.url}/chats.jsonl.gz?download=true")])
    assert [message.content for message in talk.messages] == ["hi", "ho"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, "no such file"),
        (410, "no such file"),
        (401, "no permission"),
        (403, "no permission"),
        (500, "status 500"),
    ],
)
def test_a_server_that_refuses(web: Web, status: int, said: str) -> None:
    """Each answer has a line of its own."""
    web.status = status
    assert said in refusal(f"{web.url}/chats.jsonl")


def test_nobody_listens() -> None:
    """An address that nobody answers at is told from a file that is not there."""
    text = refusal(f"{DEAD}/chats.jsonl")
    assert "cannot be fetched" in text
    assert "no such file" not in text


def test_a_package_is_missing() -> None:
    """The package for a kind of storage is named as pip calls it."""
    with pytest.raises(UserError) as caught:
        find(source("gs://bucket/chats.jsonl"))
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert caught.value.help == "pip install gcsfs"


def test_an_unknown_kind_of_address() -> None:
    """A word before `://` that no file system has is said to be unknown."""
    assert "nowhere" in refusal("nowhere://chats.jsonl")


def test_folders_and_patterns_are_listed(tmp_path: Path) -> None:
    """Where the storage can list, a folder and a pattern name their data files in the order of their names."""
    system = fsspec.filesystem("memory")
    root = f"/{uuid.uuid4().hex}"
    for name in ("b.jsonl", "a.jsonl", "notes.md"):
        system.pipe_file(f"{root}/{name}", name.encode() + LINE)
    for path in (f"memory:/{root}", f"memory:/{root}/", f"memory:/{root}/*.jsonl"):
        assert [file.name for file in local_files(source(path))] == ["a.jsonl", "b.jsonl"]
    system.pipe_file(f"{root}/c.csv", b"text\n")
    assert "several kinds" in refusal(f"memory:/{root}/*.*")
    assert "no data file fits" in refusal(f"memory:/{root}/*.parquet")


def test_a_changed_file_of_a_storage(tmp_path: Path) -> None:
    """Storage without ETags tells versions by the time of the last change."""
    system = fsspec.filesystem("memory")
    path = f"/{uuid.uuid4().hex}/chats.jsonl"
    for content in (LINE, LINE.replace(b"ho", b"he")):
        system.pipe_file(path, content)
        [file] = local_files(source(f"memory:/{path}"))
        assert file.read_bytes() == content


def test_a_file_url_is_the_file_itself(tmp_path: Path) -> None:
    """What is on this machine already is not copied."""
    path = tmp_path / "chats.jsonl"
    path.write_bytes(LINE)
    assert local_files(source(f"file://{path}")) == [path]


def test_offline_uses_what_was_fetched(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HF_HUB_OFFLINE nothing is asked for; what was never fetched is refused with the reason."""
    web.files["/chats.jsonl"] = LINE
    known = local_files(source(f"{web.url}/chats.jsonl"))
    web.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert local_files(source(f"{web.url}/chats.jsonl")) == known
    assert "HF_HUB_OFFLINE is set" in refusal(f"{web.url}/other.jsonl")
    assert web.asked == []


def test_prepared_data_name_their_origin(web: Web, tmp_path: Path) -> None:
    """Prepared data fit wherever the same rows come from; the run remembers where its own came from."""
    web.files["/chats.jsonl"] = LINE * 4
    local = tmp_path / "chats.jsonl"
    local.write_bytes(LINE * 4)
    url = f"{web.url}/chats.jsonl"
    folders = [prepare(path, tmp_path / name) for path, name in ((url, "far"), (local, "near"))]
    assert folders[0] == folders[1]
    assert list(read_pointer(tmp_path / "far").names[0].origins) == [url]
    web.files["/chats.jsonl"] = LINE * 5
    assert prepare(url, tmp_path / "far") != folders[0]


def prepare(path: Path | str, run_dir: Path, **settings: Any) -> Path:
    """Prepare the data of a run."""
    run_dir.mkdir(exist_ok=True)
    make_tokenizer(run_dir / "tokenizer")
    return data.prepare(
        [source(path, **settings)],
        tokenizer=data.Tokenizer(path=run_dir / "tokenizer"),
        options=data.Options(loss_on="assistant", max_length=64, too_long="drop"),
        seed=1,
        output=run_dir,
        tell=False,
    )


# Hubs, through their real client


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with a data set of two splits."""
    with serving(Hub()) as server:
        server.push("owner/chats", CHATS)
        yield server


CHATS = {
    "README.md": b"# Chats\n",
    "data/train-00000-of-00002.jsonl": LINE,
    "data/train-00001-of-00002.jsonl": LINE * 2,
    "data/test-00000-of-00001.jsonl": LINE * 3,
}
PROGRAM = """
import json, sys
from tunec.runtime.data import Messages
from tunec.runtime.data.remote import find
from tunec.runtime.errors import UserError
for settings in json.load(sys.stdin):
    try:
        found = find(Messages(name="chats", **{"hub": "huggingface", "path": "owner/chats", **settings}))
        sizes = [path.read_bytes().count(b"\\n") for path in found.files]
        print(json.dumps([sizes, found.revision, found.origins]))
    except UserError as fault:
        print(json.dumps(fault.text()))
"""


def ask(hub: Hub | str, tmp_path: Path, *wanted: dict[str, Any], **environ: str) -> list[Any]:
    """Fetch data sets in a process of its own, for a hub's client reads its address but once.

    Returns for each `[lines of each file, revision, origins]`, or what was said against it.
    """
    url = hub if isinstance(hub, str) else hub.url
    variables = {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*", **environ}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(wanted),
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_splits_by_the_names_of_files(hub: Hub, tmp_path: Path) -> None:
    """Shards are read in their order, and the commit is told exactly."""
    commit = hub.sets["owner/chats"]["main"]
    train, test, none, slice_ = ask(
        hub, tmp_path, {}, {"split": "test"}, {"split": "dev"}, {"split": "train[:10]"}
    )
    assert train[:2] == [[1, 2], commit]
    assert train[2][0] == f"hf://datasets/owner/chats@{commit}/data/train-00000-of-00002.jsonl"
    assert test[0] == [3]
    assert "no split `dev`" in none
    assert "`train`, `test`" in none
    assert "`limit`" in slice_


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "test.jsonl"),
        ("train/x.jsonl", "test/x.jsonl"),
        ("data/chats_train.jsonl", "data/chats-test-1.jsonl"),
        ("a/b/training/1.jsonl", "a/b/eval/1.jsonl"),
    ],
)
def test_layouts(tmp_path: Path, names: tuple[str, str]) -> None:
    """Splits stand in the names of files or folders, as everywhere on the hub."""
    with serving(Hub()) as hub:
        hub.push("owner/chats", {names[0]: LINE, names[1]: LINE * 2})
        train, test = ask(hub, tmp_path, {}, {"split": "test"})
    assert (train[0], test[0]) == ([1], [2])


README = b"""---
configs:
- config_name: short
  data_files: short/*.jsonl
- config_name: long
  data_files:
  - split: train
    path: long/a.jsonl
  - split: extra
    path: [long/b.jsonl, long/c.jsonl]
---
# Chats
"""


def test_subsets_of_the_readme(tmp_path: Path) -> None:
    """A README names subsets and their files; one of several has to be chosen."""
    files = {f"long/{name}.jsonl": LINE * n for n, name in enumerate("abc", start=2)}
    with serving(Hub()) as hub:
        hub.push("owner/chats", {"README.md": README, "short/x.jsonl": LINE, **files})
        short, long, extra, none, wrong = ask(
            hub,
            tmp_path,
            {"subset": "short"},
            {"subset": "long"},
            {"subset": "long", "split": "extra"},
            {},
            {"subset": "wide"},
        )
    assert (short[0], long[0], extra[0]) == ([1], [2], [3, 4])
    assert "several subsets" in none
    assert "`short`, `long`" in none
    assert "no subset `wide`" in wrong


def test_a_folder_of_a_data_set(hub: Hub, tmp_path: Path) -> None:
    """Only the files of a folder count, and a folder that is not there is said to be missing."""
    hub.push("owner/chats", {"en/train.jsonl": LINE, "de/train.jsonl": LINE * 2})
    german, none = ask(hub, tmp_path, {"folder": "de"}, {"folder": "fr"})
    assert german[0] == [2]
    assert "no folder `fr`" in none


def test_a_branch_that_moves(hub: Hub, tmp_path: Path) -> None:
    """A branch is read where it is now; a commit stays, and is not even asked for again."""
    old = hub.sets["owner/chats"]["main"]
    [first] = ask(hub, tmp_path, {})
    new = hub.push("owner/chats", {**CHATS, "data/train-00000-of-00002.jsonl": LINE * 9})
    moved, pinned = ask(hub, tmp_path, {}, {"revision": old})
    assert (first[0], moved[0], pinned[0]) == ([1, 2], [9, 2], [1, 2])
    assert (moved[1], pinned[1]) == (new, old)
    hub.asked.clear()
    assert ask(hub, tmp_path, {"revision": old}) == [pinned]
    assert not [line for line in hub.asked if "owner/chats" in line]


def test_what_the_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    """No such data set, no such revision: told apart."""
    none, revision = ask(hub, tmp_path, {"path": "owner/none"}, {"revision": "v9"})
    assert "no such data set, or it is private" in none
    assert "no revision `v9`" in revision


def test_tokens_come_from_the_environment(hub: Hub, tmp_path: Path) -> None:
    """The variable that `token_env` names opens a private data set, and its value is in no file."""
    hub.token = "not-for-files"
    without, unset, with_it = ask(
        hub, tmp_path, {}, {"token_env": "NO_SUCH"}, {"token_env": "MINE"}, MINE=hub.token
    )
    assert "private" in without
    assert "`NO_SUCH`" in unset
    assert with_it[0] == [1, 2]
    for path in (tmp_path / "cache").rglob("*"):
        assert path.is_dir() or hub.token.encode() not in path.read_bytes()
    hub.gated = True
    [gated] = ask(hub, tmp_path, {"split": "test"})
    assert "gated" in gated


def test_a_script_is_not_run(hub: Hub, tmp_path: Path) -> None:
    """A data set that is a program is refused with the reason."""
    hub.push("owner/chats", {"chats.py": b"raise SystemExit", "train.jsonl": LINE})
    [said] = ask(hub, tmp_path, {})
    assert "program" in said
    assert "refs/convert/parquet" in said


def test_readings_that_we_do_not_do(hub: Hub, tmp_path: Path) -> None:
    """A README that wants its files read otherwise than we do is refused, not ignored."""
    header = b"---\nconfigs:\n- config_name: default\n  data_files: x.json\n  field: rows\n---\n"
    hub.push("owner/chats", {"README.md": header, "x.json": b'{"rows": []}'})
    hub.push("owner/table", {"train.tsv": b"text\n"})
    hub.push("owner/pictures", {"train/a.png": b"\x89PNG"})
    field, table, pictures = ask(
        hub, tmp_path, {}, {"path": "owner/table"}, {"path": "owner/pictures"}
    )
    assert "field = 'rows'" in field
    assert "sep" in table or "no data file" in table
    assert "`imagefolder`" in pictures


def test_a_file_that_is_cut_short(hub: Hub, tmp_path: Path) -> None:
    """The client goes on where the connection broke, and the file is whole."""
    hub.push("owner/chats", {"train.jsonl": LINE * 20_000})
    hub.break_after = 100_000
    [whole] = ask(hub, tmp_path, {})
    assert whole[0] == [20_000]


def test_a_dead_hub_and_offline(hub: Hub, tmp_path: Path) -> None:
    """A hub that nobody answers for is said to be; offline, what was fetched is used and the rest refused."""
    [known] = ask(hub, tmp_path, {})
    [dead] = ask(DEAD, tmp_path, {})
    assert "cannot be fetched" in dead
    assert "HF_HUB_OFFLINE=1" in dead
    again, other = ask(DEAD, tmp_path, {}, {"split": "test"}, HF_HUB_OFFLINE="1")
    assert again == known
    assert "HF_HUB_OFFLINE is set" in other


@pytest.mark.parametrize(
    ("name", "package"), [("modelscope", "modelscope"), ("modelers", "openmind_hub")]
)
def test_other_hubs_name_their_package(name: str, package: str) -> None:
    """A hub whose client is not installed is refused with the package to install."""
    with pytest.raises(UserError) as caught:
        find(source("owner/chats", hub=name))
    assert caught.value.help == f"pip install {package}"
    assert caught.value.code == ExitCode.ENVIRONMENT


@pytest.mark.heavy
def test_a_run_on_data_from_elsewhere(hub: Hub, web: Web, workspace: Path) -> None:
    """From a spec to a trained adapter: rows of a hub and of a web server, evaluated on another split."""
    rows = write_chats(workspace / "rows.jsonl", 24).read_bytes()
    files = {"data/train-00000-of-00001.jsonl": rows, "data/test-00000-of-00001.jsonl": rows}
    commit = hub.push("owner/chats", files)
    web.files["/more.jsonl"] = rows
    chats = 'format = "messages", path = "owner/chats", hub = "huggingface"'
    spec = write_spec(
        workspace / "far.toml",
        f"""[data]
        sources = [{{ {chats} }}, {{ format = "messages", path = "{web.url}/more.jsonl" }}]
        eval_sources = [{{ {chats}, split = "test" }}]
        """,
    )
    done = tunec(
        "train",
        str(spec),
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(workspace / "hf")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"read owner/chats at revision {commit}" in done.stdout
    run_dir = workspace / "runs" / "first"
    assert [names.revision for names in read_pointer(run_dir).names] == [commit, "", commit]
    assert (run_dir / "final" / "adapter_model.safetensors").is_file()


# Folders that `datasets` saved


def test_saved_data_sets(tmp_path: Path) -> None:
    """What `save_to_disk` wrote is read shard after shard, and of several splits the one that is named."""
    rows = [
        {"messages": [*ROW["messages"][:1], {"role": "assistant", "content": str(n)}]}
        for n in range(12)
    ]
    train = datasets.Dataset.from_list(rows[:10])
    train.save_to_disk(tmp_path / "one", num_shards=3)
    both = datasets.DatasetDict(train=train, test=datasets.Dataset.from_list(rows[10:]))
    both.save_to_disk(tmp_path / "two")

    def answers(folder: str, **settings: Any) -> list[str]:
        talks = data.read([source(tmp_path / folder, **settings)])
        return [talk.messages[-1].content for talk in talks]

    assert answers("one") == answers("two") == [str(n) for n in range(10)]
    assert answers("two", split="test") == ["10", "11"]
    assert "`train`, `test`" in refusal(tmp_path / "two", split="dev")
    next((tmp_path / "one").glob("*.arrow")).unlink()
    assert "no such data file" in refusal(tmp_path / "one")
