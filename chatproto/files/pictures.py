"""Looks at images in processes of their own, a few at a time (:mod:`chatproto.files.thumbnail`)."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

EDGE = 640
"""Pixels of the longer side of a thumbnail: it is shown at half of that, sharp on dense screens."""

AT_ONCE = 2
MEMORY = 1 << 30
SECONDS = 10
"""Of a processor; PATIENCE: of the clock, as conversations go first on a machine that is busy."""
PATIENCE = 60

_PROGRAM = Path(__file__).with_name("thumbnail.py")


class Picture(NamedTuple):
    """
    :ivar width: pixels, as it is shown; *height* too.
    :ivar thumbnail: the media type of the thumbnail, where one was made.
    """

    width: int
    height: int
    thumbnail: str | None


class _Looking(ProcessProtocol):
    def __init__(self, ended: Deferred[tuple[int | None, bytes]]) -> None:
        self._ended = ended
        self._output = b""

    def outReceived(self, data: bytes) -> None:
        self._output += data

    def processEnded(self, reason: Failure) -> None:
        self._ended.callback((getattr(reason.value, "exitCode", None), self._output))


class Pictures:
    """:param reactor: ``spawnProcess`` and ``callLater``."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._turns = DeferredSemaphore(AT_ONCE)

    async def look(self, source: Path, target: Path) -> Picture | None:
        """What the image in *source* is; its thumbnail is written to *target*. None: no image that can be shown."""
        await self._turns.acquire()
        try:
            code, output = await self._run(str(source), str(target), str(EDGE), str(MEMORY), str(SECONDS))
        finally:
            self._turns.release()
        return Picture(**json.loads(output)) if code == 0 else None

    async def _run(self, *arguments: str) -> tuple[int | None, bytes]:
        ended: Deferred[tuple[int | None, bytes]] = Deferred()
        # -I: nothing of the environment, and nothing from the working directory, is imported.
        command = (sys.executable, "-I", str(_PROGRAM), *arguments)
        looking = self._reactor.spawnProcess(_Looking(ended), sys.executable, command, env={})
        late = self._reactor.callLater(PATIENCE, _kill, looking)
        try:
            return await ended
        finally:
            if late.active():
                late.cancel()


def _kill(looking: Any) -> None:
    with suppress(ProcessExitedAlready):
        looking.signalProcess("KILL")
