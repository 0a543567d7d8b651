"""Data that are not on this machine: addresses, and data sets of a hub. Nothing here asks the network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..facts.heads import is_data_file
from ..facts.sample_kinds import FileSource
from ..names import nearest
from ..secret_texts import kind_of_secret
from ..spec import CatalogSource, Spec
from .look import data_facts, declared, listed, sources_of
from .rule import Rule

PROTOCOLS = (
    "https", "http", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "file", "local", "memory", "ftp", "sftp",
    "ssh", "smb", "hdfs", "webhdfs", "webdav", "github", "oss", "oci", "tos", "dbfs", "gdrive", "dropbox", "box",
    "lakefs", "zip", "tar", "libarchive", "simplecache", "filecache",
)  # fmt: skip
"""What addresses begin with: the file systems of fsspec that hold files."""
WEB = ("http", "https")
ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
BRANCHES = (None, "main", "master")
"""Revisions that move."""


def check_address(spec: Spec) -> Iterator[Diagnostic]:
    """An address cannot be read: its kind is unknown, or it names several files of a web server.

    Addresses are read through fsspec: `https://`, `s3://`, `gs://`, `az://`, `hf://` and more. Credentials come from
    the environment, as the package for each kind documents. Storage can list a folder or the names that fit a pattern;
    a web server cannot.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "https://example.org/*.jsonl" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "messages", path = "https://example.org/chats.jsonl" }]
    ```
    """
    for path, source in _named(spec):
        if source.hub is None and "://" in source.path:
            yield from _address(source, (*path, "path"))


def _address(source: FileSource, here: SpecPath) -> Iterator[Diagnostic]:
    links = [link.split("://", 1)[0] for link in source.path.split("::") if "://" in link]
    unknown = next((name for name in links if name not in PROTOCOLS), None)
    if unknown is not None:
        similar = nearest(unknown, PROTOCOLS)
        known = f"write `{similar}://`" if similar else f"known are {listed(PROTOCOLS)}"
        message = f"`{unknown}://` is no kind of address that is known"
        yield error("D740", message, here, helps=(known,))
    elif links[-1] in WEB and ("*" in source.path or source.path.endswith("/")):
        other = "write a source for each file, or use storage that can, such as `s3://` or `hf://`"
        yield error("D740", "a web server cannot list its files", here, helps=(other,))


def check_id(spec: Spec) -> Iterator[Diagnostic]:
    """The path beside `hub` is no id of a data set.

    With `hub`, the path is an id, such as `owner/name`; files and folders inside are chosen by `folder`, `subset` and
    `split`.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "owner/chats/train.jsonl", hub = "huggingface", revision = "v1" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "messages", path = "owner/chats", hub = "huggingface", revision = "v1" }]
    ```
    """
    for path, source in _named(spec):
        if source.hub is not None and not ID.fullmatch(source.path):
            hub = Label((*path, "hub"), "makes it an id")
            yield _no_id(source, (*path, "path"), (hub,))


def _no_id(source: FileSource, here: SpecPath, labels: tuple[Label, ...] = ()) -> Diagnostic:
    help = "write `owner/name`; what is inside is chosen by `folder`, `subset` and `split`"
    if "://" in source.path:
        help = "leave `hub` out: an address is read as it is"
    message = f"`{source.path}` is no id of a data set"
    return error("D741", message, here, labels=labels, helps=(help,))


def check_revision(spec: Spec) -> Iterator[Diagnostic]:
    """A data set of a hub is read from a branch, which can move.

    The same spec then trains on other rows when somebody changes the data set. Each run says which commit it read, in
    its output and in `prepared.json`; write that commit, or a tag, as `revision`.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "owner/chats", hub = "huggingface" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [
        { format = "messages", path = "owner/chats", hub = "huggingface", revision = "5f3b1c2d4e5f60718293a4b5c6d7e8f901234567" },
    ]
    ```
    """
    for path, source in _named(spec):
        if source.hub is not None and source.revision in BRANCHES:
            yield _moves(source, (*path, "path" if source.revision is None else "revision"))


def _moves(source: FileSource, here: SpecPath) -> Diagnostic:
    return warning(
        "D742",
        f"`{source.path}` has no fixed revision: its branch can move",
        here,
        label="what it holds may change",
        helps=('pin a commit or a tag: `revision = "..."`; a run says which commit it read',),
    )


def check_declared(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Say the same of entries of a catalog, whose addresses are not searched for secrets elsewhere."""
    for path, source in declared(spec, facts):
        if isinstance(source, CatalogSource):
            continue
        if source.hub is None and "://" in source.path:
            kind = kind_of_secret(source.path)
            if kind is not None:
                yield error("D740", f"the entry's `path` holds what looks like {kind}", path)
            else:
                yield from _address(source, path)
        elif source.hub is not None and not ID.fullmatch(source.path):
            yield _no_id(source, path)
        elif source.hub is not None and source.revision in BRANCHES:
            yield _moves(source, path)


def _named(spec: Spec) -> Iterator[tuple[SpecPath, FileSource]]:
    """Yield the sources that stand in the spec itself."""
    for path, source in sources_of(spec):
        if not isinstance(source, CatalogSource):
            yield path, source


def check_split(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A file has no splits.

    Splits are those of a hub data set, or of a folder that `datasets` saved (`DatasetDict.save_to_disk`).

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/chat.jsonl", split = "test" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "messages", path = "owner/chats", hub = "huggingface", revision = "v1", split = "test" }]
    ```
    """
    for path, source, fact in data_facts(spec, facts):
        if isinstance(source, CatalogSource) or source.hub is not None or source.split == "train":
            continue
        is_url = "://" in source.path
        is_file = fact.state in ("ok", "glob", "unknown-kind")
        is_plain = fact.state == "folder" and not (fact.path / "dataset_dict.json").is_file()
        if is_url or is_file or is_plain:
            named = "an address" if is_url else "a file" if is_file else "a folder of files"
            where = (*path, "split") if fact.entry is None else (*path, "entry")
            yield error(
                "D743",
                f"`{source.path}` is {named}, which has no split `{source.split}`",
                where,
                helps=(_name_it(source.path),),
            )


def _name_it(path: str) -> str:
    if "://" in path or is_data_file(Path(path)):
        return "name the file of that split as `path`"
    return "name the files of that split as `path`, such as a pattern"


RULES = (
    Rule("D740", "address that cannot be read", pure=check_address, factual=check_declared),
    Rule("D741", "no id of a data set", pure=check_id),
    Rule("D742", "data set that can change", pure=check_revision),
    Rule("D743", "split of a file", factual=check_split),
)
