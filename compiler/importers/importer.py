"""Files and command lines of other trainers to TOML: what each file is, and which import it needs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from .accelerate import read_launcher_file
from .commands import Command, from_script, from_words, is_command
from .convert import SECRET
from .deepspeed import is_deepspeed, put_deepspeed
from .dialects import DIALECTS, detect
from .draft import Kind, Remark
from .homes import entries
from .library import Library, library
from .llamafactory.dataset_info import Registry, is_registry, put_source
from .placing import Import, name_sources
from .reading import ImportFault, Loaded, load
from .settings import Settings
from .writer import catalog_to_toml, to_toml

MAX_FILES = 32
REGISTRY = "dataset_info.json"
VARIABLE = re.compile(r"\$\{?\w+\}?|\$\(|`")


@frozen
class Imported:
    """TOML, and what is to be said about it."""

    text: str
    remarks: tuple[Remark, ...]
    is_spec: bool = True

    @property
    def is_whole(self) -> bool:
        """Whether everything has found a place."""
        return all(remark.kind is not Kind.LOST for remark in self.remarks)


def import_words(
    words: Sequence[str], dialect: str | None = None, folder: Path | None = None
) -> Imported:
    """Import files, or one command line. A catalog is to stand in `folder`, which its paths start from.

    Raises:
        ImportFault: where there is nothing to import, or a file is malformed.
    """
    if is_command(words):
        return _import_command(from_words(words), (), dialect)
    if len(words) > MAX_FILES:
        raise ImportFault(f"{len(words)} files are too many for one run")
    return import_files([load(Path(word)) for word in words], dialect, folder)


def import_files(
    files: Sequence[Loaded], dialect: str | None = None, folder: Path | None = None
) -> Imported:
    """Import files that are read already: configurations first, the others as what these name."""
    mains = [file for file in files if _is_main(file) and not _is_named(file, files)]
    if not mains:
        return _import_alone(files, folder)
    given = tuple(file for file in files if file not in mains)
    scripts = [file for file in mains if file.data is None]
    if len(scripts) > 1 or (scripts and len(mains) > 1):
        raise ImportFault(f"{scripts[0].name}: a script cannot be mixed with other configurations")
    if scripts:
        command = from_script(scripts[0].text, str(scripts[0].path))
        return _import_command(command, files, dialect)
    settings = Settings()
    for file in mains:
        settings.add(_mapping(file), file.name)
    return _run(settings, library(given, _paths(mains)), dialect, [file.name for file in mains])


def _paths(files: Sequence[Loaded]) -> tuple[Path, ...]:
    return tuple(file.path for file in files)


def _is_main(file: Loaded) -> bool:
    """Return whether a file asks for a run: neither a registry nor settings of DeepSpeed."""
    return file.name != REGISTRY and not _is_registry(file) and not is_deepspeed(file.data)


def _is_registry(file: Loaded) -> bool:
    """Return whether a file is a registry; one by another name must not hold names of settings."""
    if not is_registry(file.data):
        return False
    return file.name == REGISTRY or not entries().keys() & file.data.keys()


def _is_named(file: Loaded, files: Sequence[Loaded]) -> bool:
    """Return whether a file is a value in another one, such as the descriptions of special tokens."""
    others = (other.data for other in files if other is not file and isinstance(other.data, dict))
    values = (value for data in others for value in data.values() if isinstance(value, str))
    return any(value.replace("\\", "/").rsplit("/", 1)[-1] == file.name for value in values)


def _mapping(file: Loaded) -> dict[str, Any]:
    if not isinstance(file.data, dict) or not file.data:
        raise ImportFault(f"{file.path}: names with values belong in the file")
    return file.data


def _import_command(command: Command, files: Sequence[Loaded], dialect: str | None) -> Imported:
    near = library(tuple(files), _paths(files))
    settings = Settings(
        environment=command.environment,
        verb=command.verb,
        processes=command.launcher.get("processes"),
        nodes=command.launcher.get("nodes", 1),
    )
    sources = []
    for name in command.files:
        found = near.find(name)
        if found is None:
            raise ImportFault(f"{name}: the file does not exist")
        settings.add(_mapping(found), found.name)
        near = evolve(near, folders=(*near.folders, *library((), (found.path,)).folders))
        sources.append(found.name)
    settings.add(command.values, "command line")
    remarks = read_launcher_file(settings, near, command.launcher_file)
    if not settings.given:
        raise ImportFault("the command sets nothing", "tunec import -- llamafactory-cli train ...")
    shown = [file.name for file in files] or ["a command line"]
    wanted = dialect or (command.program if command.program in DIALECTS else None)
    imported = _run(settings, near, wanted, [*shown, *sources])
    return evolve(imported, remarks=(*imported.remarks, *remarks))


def _run(settings: Settings, near: Library, dialect: str | None, sources: list[str]) -> Imported:
    name = dialect or detect(settings.given)
    trainer = DIALECTS[name]
    work = Import(settings, near, trainer.title)
    trainer.import_run(work)
    _report_variables(work)
    name_sources(work)
    return Imported(to_toml(work.draft, _header(trainer.title, sources)), tuple(work.draft.remarks))


def _report_variables(work: Import) -> None:
    """Report what a shell would have filled in, by its name: what stands around it could be a secret."""
    for name, given in work.settings.given.items():
        found = VARIABLE.findall(str(given.value)) if isinstance(given.value, str | list) else []
        for variable in dict.fromkeys(found):
            bare = variable.strip("${}")
            value = "" if SECRET.search(bare) else work.settings.environment.get(bare, "")
            known = f"; the script sets it to {value[:60]}" if value else ""
            work.ask(name, f"`{variable[:60]}` is a variable: write its value{known}")


def _header(title: str, sources: Sequence[str]) -> tuple[str, ...]:
    return (
        f"Made by `tunec import` from {title}: {', '.join(dict.fromkeys(sources))}.",
        "Comments name the settings that values come from. Paths start from the folder of this file.",
    )


def _import_alone(files: Sequence[Loaded], folder: Path | None) -> Imported:
    """Import registries or DeepSpeed settings by themselves."""
    if len(files) > 1:
        raise ImportFault("one file at a time, unless a configuration names them")
    if not files:
        raise ImportFault("nothing to import")
    file = files[0]
    if _is_registry(file):
        return _catalog(file, folder)
    if not is_deepspeed(file.data):
        raise ImportFault(f"{file.path}: entries with a file or a hub belong in the registry")
    work = Import(Settings(verb="none"), library((), ()), "DeepSpeed")
    put_deepspeed(work, file.data, file.name)
    header = (f"Made by `tunec import` from {file.name}: sections for a spec.",)
    return Imported(to_toml(work.draft, header), tuple(work.draft.remarks), is_spec=False)


def _catalog(file: Loaded, base: Path | None) -> Imported:
    found: Mapping[str, Any] = file.data
    here = file.path.parent
    folder = str(here) if base is None else os.path.relpath(here, base)
    work = Import(Settings(verb="none"), library((), ()))
    for number, name in enumerate(found):
        registry = Registry(file.name, folder, dict(found))
        put_source(work, ("data", "sources", number), name, registry)
        work.draft.entries.pop(("data", "sources", number, "name"))
    header = (
        f"Made by `tunec import` from {file.name}. A spec names an entry so:",
        '[[data.sources]] with format = "catalog" and entry = "NAME"',
    )
    text = catalog_to_toml(work.draft, list(found), header)
    return Imported(text, tuple(work.draft.remarks), is_spec=False)
