"""The file store of one node: where files arrive, where they are kept, and the threads in which that happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from chatproto.errors import StartError
from chatproto.files.local import Directory
from chatproto.files.pictures import Picture, Pictures
from chatproto.files.place import Place, Unavailable
from chatproto.files.s3 import Bucket
from chatproto.files.staging import Staged, Staging

T = TypeVar("T")

log = Logger()

THREADS = 8
"""In a pool of their own: the reactor's looks up names, and must not wait for a disk."""


class _Worker(Thread):
    """At the end of the process nobody waits for it, though it may wait for a bucket."""

    def __init__(self, **options: Any) -> None:
        super().__init__(daemon=True, **options)


class _Threads(ThreadPool):
    threadFactory = _Worker  # type: ignore[assignment]


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
        self._threads = _Threads(0, THREADS, "files")
        self._under_way = 0
        self._idle: Deferred[None] | None = None

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
        except Unavailable as error:
            # Conversations go on without files.
            log.error("files cannot be kept: {error}", error=str(error))
        try:
            await self._in_thread(self._staging.clear)
        except OSError as error:
            raise StartError(f"{self._staging.directory} cannot be emptied: {error.strerror}") from None

    async def stop(self) -> None:
        """What runs in threads is waited for."""
        if self._under_way:
            self._idle = Deferred()
            await self._idle
        self._threads.stop()

    def _in_thread(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        self._under_way += 1
        return deferToThreadPool(self._reactor, self._threads, function, *arguments).addBoth(self._left)

    def _left(self, result: Any) -> Any:
        self._under_way -= 1
        if self._idle is not None and not self._under_way:
            self._idle.callback(None)
        return result

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
