"""Files in a directory, spread over 256 others by the first two letters of their names."""

from __future__ import annotations

import os
from pathlib import Path

from chatproto.errors import StartError
from chatproto.files.place import NotThere, checked
from chatproto.files.staging import no_room


class Directory:
    """:param root: on the same file system as the directory in which files arrive."""

    part = 1 << 18

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StartError(f"--files {self._root} cannot be made: {error.strerror}") from None
        if not os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            raise StartError(f"--files {self._root} is not ours to write: chown it to this user")

    def keep(self, path: Path, name: str, media_type: str) -> None:
        target = self._path(name)
        try:
            target.parent.mkdir(exist_ok=True, mode=0o700)
            path.rename(target)
            _sync(target.parent)
        except OSError as error:
            raise no_room(error) from error

    def read(self, name: str, start: int, size: int) -> bytes:
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotThere(name) from None
        try:
            return os.pread(descriptor, size, start)
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._root / checked(name)[:2] / name


def _sync(directory: Path) -> None:
    """Let an entry of a directory outlive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
