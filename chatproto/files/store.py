"""The file store of one node: where files arrive, where they are kept, and the threads in which that happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from chatproto.errors import StartError
from chatproto.files.local import Directory
from chatproto.files.pictures import Picture, Pictures
from chatproto.files.place import Place
from chatproto.files.s3 import Bucket
from chatproto.files.staging import Staged, Staging

T = TypeVar("T")

THREADS = 8
"""A pool of their own: the reactor's looks up names, and must not wait for a disk."""


def place_of(files: Path | str | None, endpoint: str | None, data: Path) -> Place:
    """Where files are kept.

    :param files: a directory, or ``s3://BUCKET/PREFIX``; None: ``files`` in *data*.
    :raises StartError: it cannot be had.
    """
    if isinstance(files, str):
        return Bucket(files, endpoint, THREADS)
    return Directory(files or data / "files")


def arrivals_of(files: Path | str | None, data: Path, node: str) -> Path:
    """Where they arrive: in a directory of this node alone, on the disk where they stay."""
    root = data if isinstance(files, str) else files or data / "files"
    return root / "arriving" / node


class FileStore:
    """
    :param min_free: bytes that uploads leave on the disk.
    """

    def __init__(self, place: Place, arrivals: Path, reactor: Any, min_free: int) -> None:
        self._place = place
        self._staging = Staging(arrivals, min_free)
        self._pictures = Pictures(reactor)
        self._reactor = reactor
        self._threads = ThreadPool(0, THREADS, "files")

    @property
    def part(self) -> int:
        """Bytes that are read at once."""
        return self._place.part

    async def start(self) -> None:
        """Whatever an earlier process of this node left half done is gone then.

        :raises StartError: nothing can be kept.
        """
        self._threads.start()
        try:
            await self._in_thread(self._place.prepare)
            await self._in_thread(self._staging.clear)
        except OSError as error:
            raise StartError(f"{self._staging.directory} cannot be emptied: {error.strerror}") from None

    async def stop(self) -> None:
        """What runs in threads is waited for."""
        await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._threads.stop)

    def _in_thread(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._threads, function, *arguments)

    # Arriving.

    async def open(self, size: int) -> Staged:
        """Begin to take a file of *size* bytes.

        :raises UploadRefused: there is no room.
        """
        return await self._in_thread(self._staging.open, size)

    async def write(self, staged: Staged, data: bytes) -> None:
        """:raises UploadRefused: the disk is full."""
        await self._in_thread(staged.write, data)

    async def seal(self, staged: Staged) -> None:
        await self._in_thread(staged.seal)

    async def discard(self, *paths: Staged | Path) -> None:
        """They need not be there any more."""

        def work() -> None:
            for path in paths:
                if isinstance(path, Staged):
                    path.discard()
                else:
                    path.unlink(missing_ok=True)

        await self._in_thread(work)

    async def look(self, staged: Staged) -> tuple[Picture | None, Path]:
        """What an image that arrived is, and where its thumbnail is, if it has one."""
        target = self._staging.new_path()
        return await self._pictures.look(staged.path, target), target

    # Kept.

    async def keep(self, path: Path, name: str, media_type: str) -> int:
        """Returns its bytes.

        :raises UploadRefused: there is no room.
        """

        def work() -> int:
            size = path.stat().st_size
            self._place.keep(path, name, media_type)
            return size

        return await self._in_thread(work)

    async def read(self, name: str, start: int, size: int) -> bytes:
        """:raises NotThere: no such file."""
        return await self._in_thread(self._place.read, name, start, size)

    async def remove(self, *names: str) -> None:
        """They need not be there."""

        def work() -> None:
            for name in names:
                self._place.remove(name)

        await self._in_thread(work)
