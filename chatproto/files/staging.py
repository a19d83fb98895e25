"""Where files lie while they arrive, until they are whole and known to be wanted.

Everything here blocks: it is called in threads. Whatever a process that was killed left behind is removed at its next
start: the directory belongs to one process.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from chatproto.files.refusal import UploadRefused

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def no_room(error: OSError) -> Exception:
    """What to raise for an error of the disk."""
    return UploadRefused("no_room") if error.errno in _FULL else error


class _Promised:
    """Bytes that are to come, and that others must not take for free; for all threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._bytes = 0

    def add(self, size: int, room: Callable[[], int]) -> bool:
        """Count *size* more; False, and not counted, where that is more than there is *room* for."""
        with self._lock:
            if self._bytes + size > room():
                return False
            self._bytes += size
            return True

    def kept(self, size: int) -> None:
        """So many have come, or will not."""
        with self._lock:
            self._bytes -= size


class Staged:
    """A file that arrives. Its directory entry goes with :meth:`discard`, or when it is moved to its place.

    :param size: bytes of it, of which all are promised.
    """

    def __init__(self, path: Path, size: int, promised: _Promised) -> None:
        self.path = path
        self._missing = size
        self._promised = promised
        self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        """:raises UploadRefused: the disk is full."""
        assert self._descriptor is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise no_room(error) from error
        self._keep_promise(min(len(data), self._missing))

    def seal(self) -> None:
        """It is whole: from now on a power cut does not take it.

        :raises UploadRefused: the disk is full.
        """
        assert self._descriptor is not None
        try:
            os.fsync(self._descriptor)
            self._close()
        except OSError as error:
            raise no_room(error) from error

    def discard(self) -> None:
        with suppress(OSError):
            self._close()
        self.path.unlink(missing_ok=True)
        self._keep_promise(self._missing)

    def _keep_promise(self, size: int) -> None:
        self._missing -= size
        self._promised.kept(size)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class Staging:
    """
    :param min_free: bytes of the disk that uploads leave to others, the database above all.
    """

    def __init__(self, directory: Path, min_free: int) -> None:
        self.directory = directory
        self._min_free = min_free
        self._promised = _Promised()

    def clear(self) -> None:
        """Make the directory, with nothing in it.

        :raises OSError: it cannot be made, or not be emptied.
        """
        if self.directory.exists():
            shutil.rmtree(self.directory)
        for directory in (self.directory.parent, self.directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def new_path(self) -> Path:
        return self.directory / secrets.token_hex(16)

    def open(self, size: int) -> Staged:
        """
        :param size: bytes that are to come.
        :raises UploadRefused: there is no room for them beside what is to come of other files.
        """
        if not self._promised.add(size, self._room):
            raise UploadRefused("no_room")
        try:
            return Staged(self.new_path(), size, self._promised)
        except OSError as error:
            self._promised.kept(size)
            raise no_room(error) from error

    def _room(self) -> int:
        return shutil.disk_usage(self.directory).free - self._min_free
