"""Files behind URLs, through fsspec: each is fetched once a version, and a broken transfer goes on where it ended."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from .. import storage
from ..errors import ExitCode, UserError
from .files import KINDS, check_one_kind, kind_of_file
from .progress import Transfer
from .store import Found, digest, downloads, locked

BLOCK = 2**23
"""Bytes that are asked for at a time."""
WEB = ("http", "https")
PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "hf": "huggingface_hub",
    "oss": "ossfs",
    "oci": "ocifs",
    "tos": "tosfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
    "webdav": "webdav4",
    "github": "requests",
    "webhdfs": "requests",
    "hdfs": "pyarrow",
}
"""What pip calls the packages that fsspec needs."""
MARKS = ("ETag", "etag", "e_tag", "md5Hash", "Content-MD5", "content_md5", "blob_id", "sha256")
"""Names under which file systems tell a file's content apart."""
TIMES = (
    "Last-Modified",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "modified",
    "created",
)


def is_url(path: Path | str) -> bool:
    """Tell whether a path is the address of something elsewhere."""
    return isinstance(path, str) and "://" in path


def fetch_url(url: str) -> Found:
    """Bring the file, folder or pattern of names behind a URL to this machine.

    Raises:
        UserError: (DATA) there is nothing, or it cannot be had; (ENVIRONMENT) a package is missing.
    """
    with translated(url):
        system, path = _opened(url)
        names = _listed(system, path, url)
        files = tuple(_fetch(system, name, _origin(system, name, url, path)) for name in names)
    return Found(files, tuple(_origin(system, name, url, path) for name in names))


def _opened(url: str) -> tuple[Any, str]:
    """Return the file system and the path in it, anew: an old one would remember old listings."""
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {"skip_instance_cache": True}
    if urlsplit(url).scheme in WEB:
        import aiohttp

        # A large file may take hours; a server that says nothing for a minute is gone.
        patience = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options["client_kwargs"] = {"trust_env": True, "timeout": patience}
    system, path = url_to_fs(url, **options)
    return system, str(path)


def _origin(system: Any, name: str, url: str, path: str) -> str:
    return url if name == path else str(system.unstrip_protocol(name))


def _listed(system: Any, path: str, url: str) -> list[str]:
    """Return the files that a path names; a web server cannot list, so that its paths are files."""
    if urlsplit(url).scheme in WEB:
        return [path]
    if any(mark in path for mark in "*?[") and not system.isfile(path):
        found = [name for name in system.glob(path) if system.isfile(name)]
        none = f"{shown(url)}: no data file fits this pattern"
    elif system.isdir(path):
        found = [str(e["name"]) for e in system.ls(path, detail=True) if e["type"] == "file"]
        none = f"{shown(url)}: the folder holds no data files"
    else:
        return [path]
    found = sorted(name for name in found if kind_of_file(Path(name)) in KINDS)
    if not found:
        raise UserError(none, help=f"data files are {', '.join(KINDS)}", code=ExitCode.DATA)
    check_one_kind([Path(name) for name in found], shown(url))
    return found


def _fetch(system: Any, path: str, origin: str) -> Path:
    """Return the file on this machine; what did not change since it was fetched is not fetched again."""
    info = system.info(path)
    version, size = _version(info), info.get("size")
    folder = downloads() / "files" / digest(origin)
    name = _name(origin)
    with locked(folder):
        if version is not None:
            known = folder / version / name
            if known.is_file() and size in (None, known.stat().st_size):
                return known
        part = folder / f".{version or 'unnamed'}.part"
        if version is None:
            part.unlink(missing_ok=True)
        with storage.disk_errors(name, folder, needed=size, code=ExitCode.ENVIRONMENT):
            _transfer(system, path, part, name, size)
        _check(system, path, origin, part, version, size)
        # A server that cannot tell versions apart leaves only the content to tell them by.
        target = folder / (version or storage.sha256_file(part)[:16]) / name
        target.parent.mkdir(exist_ok=True)
        os.replace(part, target)
        storage.sync_directory(target.parent)
        storage.sync_directory(folder)
    return target


def _version(info: Mapping[str, Any]) -> str | None:
    """Return a name for what the file holds now, by what its server says; None where it says nothing."""
    marks = [str(info[name]) for name in MARKS if info.get(name)]
    lfs = info.get("lfs")
    found = marks or ([str(lfs)] if lfs else [])
    found = found or [str(info[name]) for name in TIMES if info.get(name)]
    return digest([*found, info.get("size")]) if found else None


def _name(origin: str) -> str:
    """Return the file's name: its suffix tells what is in it."""
    outer = origin.split("::", 1)[0]
    parts = urlsplit(outer)
    # What begins with `?` belongs to the name everywhere but in the web.
    path = parts.path if parts.scheme in WEB else outer.split("://", 1)[-1]
    name = re.sub(r"[\x00-\x1f/\\]", "_", unquote(PurePosixPath(path).name))
    return name[-100:] if name.strip(".") else "data"


def _transfer(system: Any, path: str, part: Path, name: str, size: int | None) -> None:
    """Append to `part` what it lacks."""
    is_web = urlsplit(path).scheme in WEB
    # What a web file would read ahead is lost when the connection breaks.
    options = {"cache_type": "none"} if is_web else {}
    with closing(Transfer(name, size)) as meter:
        try:
            _copy(system.open(path, "rb", block_size=BLOCK, **options), part, size, meter)
        except ValueError:
            if not is_web:
                raise
            # A web server that cannot send parts of files sends this one whole.
            part.unlink(missing_ok=True)
            meter.count = 0
            _copy(system.open(path, "rb", block_size=0), part, None, meter)


def _copy(source: Any, part: Path, size: int | None, meter: Transfer) -> None:
    done = part.stat().st_size if part.exists() else 0
    with closing(source), part.open("ab" if size is not None and done <= size else "wb") as target:
        if target.tell():
            try:
                source.seek(done)
            except (ValueError, NotImplementedError, OSError):
                target.truncate(0)
                target.seek(0)
        meter.add(target.tell())
        while target.tell() != size and (chunk := source.read(BLOCK)):
            target.write(chunk)
            meter.add(len(chunk))
        target.flush()
        os.fsync(target.fileno())


def _check(
    system: Any, path: str, origin: str, part: Path, version: str | None, size: int | None
) -> None:
    """Refuse, and forget, a file that is not whole or holds parts of two versions."""
    got = part.stat().st_size
    if size is not None and got != size:
        part.unlink()
        raise UserError(
            f"{shown(origin)}: cut short: {got:,} bytes came, the server announced {size:,}",
            help="start again",
            code=ExitCode.DATA,
        )
    system.invalidate_cache()
    if _version(system.info(path)) != version:
        part.unlink()
        raise UserError(
            f"{shown(origin)}: the file changed while it was fetched",
            help="start again when nobody writes to it",
            code=ExitCode.DATA,
        )


def shown(url: str) -> str:
    """Return a URL without the query of a web address: it may be signed."""
    return re.sub(r"(?<=[^?])\?\S*", "", url) if url.startswith(WEB) else url


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Say in one line why something cannot be fetched: file systems raise whatever their clients do."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as fault:
        raise reason(what, fault) from None


def reason(what: str, fault: Exception) -> UserError:
    """Return the error that an exception of a client means, by the first of its causes that says something."""
    name, causes = shown(what), list(_causes(fault))
    answers = statuses(fault)
    if any(isinstance(cause, ImportError) for cause in causes):
        return _missing_package(what, fault)
    if 401 in answers or 403 in answers or any(map(_is_refusal, causes)):
        return UserError(
            f"{name}: no permission to read it",
            help="credentials are taken from the environment, as the package for this kind of address documents",
            code=ExitCode.DATA,
        )
    if 404 in answers or 410 in answers:
        return UserError(f"{name}: no such file", code=ExitCode.DATA)
    if answers:
        return UserError(
            f"{name}: the server answered with status {answers[0]}",
            help="start again later",
            code=ExitCode.DATA,
        )
    if type(causes[-1]) in (FileNotFoundError, NotADirectoryError):
        return UserError(f"{name}: no such file", code=ExitCode.DATA)
    return UserError(
        f"{name}: cannot be fetched: {_words(causes[-1])}",
        help="what was fetched so far is kept; with HF_HUB_OFFLINE=1 the last whole copy is used",
        code=ExitCode.DATA,
    )


def statuses(fault: Exception) -> list[int]:
    """Return the statuses of HTTP that an exception and its causes tell of."""
    return [status for cause in _causes(fault) if (status := _status(cause))]


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__


def _status(fault: BaseException) -> int | None:
    response = getattr(fault, "response", None)
    for value in (getattr(fault, "status", None), getattr(response, "status_code", None)):
        if isinstance(value, int) and value >= 400:
            return value
    return None


def _is_refusal(fault: BaseException) -> bool:
    return isinstance(fault, PermissionError) or "Credentials" in type(fault).__name__


def _missing_package(url: str, fault: Exception) -> UserError:
    protocol = url.split("://", 1)[0].split("::")[-1]
    package = PACKAGES.get(protocol)
    return UserError(
        f"{shown(url)}: reading {protocol}:// needs {package or 'a package that is not installed'}",
        help=f"pip install {package}" if package else _words(fault),
        code=ExitCode.ENVIRONMENT,
    )


def _words(fault: BaseException) -> str:
    """Return the first line of an exception, without addresses that may be signed."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    text = lines[0] if lines else type(fault).__name__
    text = re.sub(r"^\[Errno -?\d+\] ", "", text)
    return re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", text)[:300]


__all__ = ["fetch_url", "is_url", "reason", "shown", "statuses", "translated"]
