"""Files that a configuration names: found among the given ones, or where the trainer would look."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from .reading import ImportFault, Loaded, load


@frozen
class Library:
    """The given files, and the folders to look for others in: where tunec was started, and around the files."""

    given: tuple[Loaded, ...]
    folders: tuple[Path, ...]

    def find(self, reference: str) -> Loaded | None:
        """Return the file that a name or path means; None where there is none.

        Raises:
            ImportFault: where the file exists and is malformed.
        """
        name = reference.replace("\\", "/").rsplit("/", 1)[-1]
        for loaded in self.given:
            if loaded.name == name:
                return loaded
        for folder in self.folders:
            if (path := _file(folder, reference)) is not None:
                return load(path)
        return None


def _file(folder: Path, reference: str) -> Path | None:
    try:
        path = folder / reference
        return path if path.is_file() else None
    except (OSError, ValueError):  # NUL in the name, or a name too long
        return None


def library(given: tuple[Loaded, ...], main: tuple[Path, ...]) -> Library:
    """Return the library around the main files: the working folder, their folders, and three above each."""
    folders: list[Path] = [Path()]
    for path in main:
        above = path.parent
        for _ in range(4):
            folders.append(above)
            above = above / ".."
    return Library(given, tuple(dict.fromkeys(folders)))


__all__ = ["ImportFault", "Library", "library"]
