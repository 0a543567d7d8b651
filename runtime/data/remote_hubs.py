"""Data sets of a hub: which files they are by their names and their README, as `datasets` sees them, and the files.

The branch of a hub moves; what is read is always one commit of it, which the report of the prepared data names.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..credentials import token_of
from ..errors import ExitCode, UserError
from .files import KINDS, check_one_kind, kind_of_file
from .progress import Transfer
from .remote_urls import reason, statuses, translated
from .store import Found

READ = ("json", "csv", "parquet", "arrow", "text")
"""Builders of `datasets` whose files are read here, by our own readers."""
NEUTRAL = {"name", "version", "data_dir", "data_files", "description", "features"}
"""Settings of a builder that change no row."""
COMMIT = re.compile("[0-9a-f]{40}")


@dataclasses.dataclass(frozen=True)
class HubSet:
    """A data set of a hub; see the spec's source for the fields."""

    id: str
    revision: str | None
    subset: str | None
    split: str
    folder: str | None
    token_env: str | None

    @property
    def token(self) -> str | None:
        """The value of the variable that `token_env` names."""
        return None if self.token_env is None else token_of(self.token_env, "token_env")

    @property
    def text(self) -> str:
        """The data set for messages."""
        return f"{self.id}@{self.revision}" if self.revision else self.id


def fetch_hub(hub: str, wanted: HubSet, known: Found | None = None) -> Found:
    """Bring the files of a data set to this machine, unless they are the `known` ones, fetched earlier.

    Raises:
        UserError: (DATA) there is no such data set, revision, subset, split or folder, or it cannot be had or read;
            (ENVIRONMENT) a package or a token is missing.
    """
    return FETCHERS[hub](wanted, known)


def _from_huggingface(wanted: HubSet, known: Found | None) -> Found:
    with _packages("huggingface", "datasets"):
        from huggingface_hub import HfApi
    with _answers(wanted):
        info = HfApi(token=wanted.token).dataset_info(wanted.id, revision=wanted.revision)
    commit = str(info.sha)
    if known is not None and known.revision == commit:
        return known
    there = [file.rfilename for file in info.siblings or ()]
    _refuse_script(wanted, there)
    if wanted.folder and not any(name.startswith(f"{wanted.folder.strip('/')}/") for name in there):
        raise UserError(f"{wanted.text}: there is no folder `{wanted.folder}`", code=ExitCode.DATA)
    root = f"hf://datasets/{wanted.id}@{commit}/"
    with _answers(wanted):
        urls = _data_files(wanted, wanted.id, revision=commit, token=wanted.token)
    names = [url.removeprefix(root) for url in urls]
    if any("://" in name for name in names):
        raise UserError(
            f"{wanted.text}: its README names files outside the data set",
            help="name their addresses as the `path` of sources",
            code=ExitCode.DATA,
        )
    files = tuple(_fetched(wanted, name, commit) for name in names)
    return Found(files, tuple(urls), commit)


def _fetched(wanted: HubSet, name: str, commit: str) -> Path:
    """Return a file of a commit in the hub's own cache, where other programs find it, too."""
    from huggingface_hub import hf_hub_download

    with translated(f"{wanted.text}: {name}"):
        path = hf_hub_download(
            wanted.id,
            name,
            repo_type="dataset",
            revision=commit,
            token=wanted.token,
            tqdm_class=_Bar,
        )
    return Path(path)


class _Bar:
    """What a hub's client takes for a bar of tqdm."""

    def __init__(self, *, desc: str = "", total: int | None = None, **_: Any) -> None:
        self.meter = Transfer(desc, total)

    def update(self, count: int | None = 1) -> None:
        self.meter.add(count or 0)

    def close(self) -> None:
        self.meter.close()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Whatever else a bar can do changes nothing here."""
        return lambda *args, **options: None


def _from_modelscope(wanted: HubSet, known: Found | None) -> Found:
    """See `dataset_snapshot_download` at https://modelscope.cn/docs/datasets/download; it names no commit."""
    with _packages("modelscope", "modelscope", "datasets"):
        from modelscope.hub.snapshot_download import dataset_snapshot_download
    with _answers(wanted):
        folder = dataset_snapshot_download(
            wanted.id,
            revision=wanted.revision,
            allow_patterns=_patterns(wanted),
            token=wanted.token,
        )
    return _chosen(wanted, "modelscope", Path(folder), wanted.revision or "master")


def _from_modelers(wanted: HubSet, known: Found | None) -> Found:
    """See `snapshot_download` at https://modelers.cn/docs/zh/openmind-hub-client; its folder is named by the commit."""
    with _packages("modelers", "openmind_hub", "datasets"):
        from openmind_hub import snapshot_download
    with _answers(wanted):
        folder = Path(
            snapshot_download(
                wanted.id,
                repo_type="dataset",
                revision=wanted.revision,
                allow_patterns=_patterns(wanted),
                token=wanted.token,
            )
        )
    return _chosen(wanted, "modelers", folder, folder.name)


FETCHERS: dict[str, Callable[[HubSet, Found | None], Found]] = {
    "huggingface": _from_huggingface,
    "modelscope": _from_modelscope,
    "modelers": _from_modelers,
}


def _patterns(wanted: HubSet) -> list[str] | None:
    """Return what to fetch where a folder is named: it, and the README, which tells what is data."""
    return [f"{wanted.folder.strip('/')}/*", "README.md"] if wanted.folder else None


def _chosen(wanted: HubSet, hub: str, folder: Path, revision: str) -> Found:
    """Return the files of the split out of a data set that is here whole."""
    _refuse_script(wanted, [path.name for path in folder.glob("*.py")])
    with _answers(wanted):
        paths = [Path(path) for path in _data_files(wanted, str(folder))]
    inside = [path.relative_to(folder) for path in paths if path.is_relative_to(folder)]
    origins = tuple(f"{hub}://{wanted.id}@{revision}/{path}" for path in inside)
    return Found(tuple(paths), origins, revision)


def _data_files(wanted: HubSet, place: str, **options: Any) -> list[str]:
    """Return the files of the split: by the README's `configs`, else by their names."""
    import datasets

    with _silent(datasets):
        builder = datasets.load_dataset_builder(
            place, name=wanted.subset, data_dir=wanted.folder, **options
        )
    _refuse_settings(wanted, builder.config)
    splits = {str(name): list(files) for name, files in (builder.config.data_files or {}).items()}
    if wanted.split not in splits:
        raise UserError(
            f"{wanted.text}: there is no split `{wanted.split}`",
            help=f"it has {_listed(splits)}; for a part of one use `limit` or `sample`",
            code=ExitCode.DATA,
        )
    paths = splits[wanted.split]
    unread = [path for path in paths if kind_of_file(Path(path)) not in KINDS]
    if unread:
        raise UserError(
            f"{wanted.text}: {Path(unread[0]).name} is no data file that can be read",
            help=f"data files are {', '.join(KINDS)}",
            code=ExitCode.DATA,
        )
    check_one_kind([Path(path) for path in paths], wanted.text)
    return paths


@contextmanager
def _silent(datasets: Any) -> Iterator[None]:
    """Bars and remarks about small files that nobody asked for would stand between our own lines."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled as hub_silent
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    was, hub_was = datasets.are_progress_bars_disabled(), hub_silent()
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    datasets.disable_progress_bars()
    disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not was:
            datasets.enable_progress_bars()
        if not hub_was:
            enable_progress_bars()


def _refuse_settings(wanted: HubSet, config: Any) -> None:
    """A README can say how its files are to be read; what would be read otherwise is refused."""
    builder = type(config).__module__.rsplit(".", 1)[-1]
    if builder not in READ:
        raise UserError(
            f"{wanted.text}: a data set of the kind `{builder}` cannot be read",
            help=f"data files are {', '.join(KINDS)}; name a `folder` that holds such",
            code=ExitCode.DATA,
        )
    default = type(config)()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in NEUTRAL and value != getattr(default, field.name):
            raise UserError(
                f"{wanted.text}: its files are to be read with `{field.name} = {value!r}`, which is not available",
                help="save the data set as Parquet or JSON Lines",
                code=ExitCode.DATA,
            )


def _refuse_script(wanted: HubSet, names: list[str]) -> None:
    script = f"{wanted.id.rsplit('/', 1)[-1]}.py"
    if script in names:
        raise UserError(
            f"{wanted.text}: the data set is a program, {script}, which is not run: it could do anything",
            help='the hub keeps many of them as Parquet, too: `revision = "refs/convert/parquet"`',
            code=ExitCode.DATA,
        )


@contextmanager
def _packages(hub: str, *names: str) -> Iterator[None]:
    try:
        for name in names:
            __import__(name)
        yield
    except ImportError as fault:
        missing = (fault.name or names[0]).split(".")[0]
        raise UserError(
            f'data sets with `hub = "{hub}"` need the package {missing}',
            help=f"pip install {missing}",
            code=ExitCode.ENVIRONMENT,
        ) from None


@contextmanager
def _answers(wanted: HubSet) -> Iterator[None]:
    """Say in one line what a hub, or `datasets`, has against a data set."""
    try:
        yield
    except UserError:
        raise
    except Exception as fault:
        raise _told(wanted, fault) from None


def _told(wanted: HubSet, fault: Exception) -> UserError:
    """The names of exceptions are compared, and not the classes: other hubs' clients have none of these."""
    name, text = type(fault).__name__, " ".join(str(fault).split())
    message, help = "", ""
    if name == "GatedRepoError":
        message = "the data set is gated: its owner lets in who asked"
        help = "ask for access on its page, then name your token's variable: `token_env`"
    elif name == "RevisionNotFoundError":
        message, help = f"there is no revision `{wanted.revision}`", "name a branch, tag or commit"
    elif name in ("RepositoryNotFoundError", "DatasetNotFoundError") or 404 in statuses(fault):
        message = "there is no such data set, or it is private"
        help = (
            "compare the id; of a private one name the variable that holds your token: `token_env`"
        )
    elif name in ("EmptyDatasetError", "DataFilesNotFoundError"):
        message = "there are no data files" + (f" in `{wanted.folder}`" if wanted.folder else "")
    elif "Config name is missing" in text:
        message, help = "it has several subsets", f"set `subset` to one of {_configs(text)}"
    elif "BuilderConfig" in text and "not found" in text:
        message = f"there is no subset `{wanted.subset}`"
        help = f"it has {_configs(text)}"
    if not message:
        return reason(wanted.text, fault)
    return UserError(f"{wanted.text}: {message}", help=help, code=ExitCode.DATA)


def _configs(text: str) -> str:
    listed = re.search(r"\[(.*?)\]", text)
    return _listed(re.findall(r"'([^']*)'", listed[1]) if listed else [])


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
