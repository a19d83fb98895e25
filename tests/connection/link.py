"""A link that remembers what it was asked to do, for what stands above the transport."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def nothing() -> None: ...


class MemoryLink:
    """Implements :class:`~chatproto.connection.state.Link`.

    :ivar frames: what was sent, decoded, in order; *raw* the payloads themselves.
    :ivar pushes: those of *frames* that were sent as pushes.
    :ivar paused: whether reading is paused.
    :ivar resting: the seconds that it was told to rest; the test ends that.
    :ivar closed: code and reason, once it was asked to close.
    :ivar came: called after each frame, and after the close.
    """

    def __init__(self, came: Callable[[], None] = nothing) -> None:
        self.frames: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.pushes: list[dict[str, Any]] = []
        self.paused = False
        self.closed: tuple[int, str] | None = None
        self.resting: float | None = None
        self.congested = False
        self.unsent = 0
        self.came = came

    def send(self, payload: bytes, push: bool = False) -> None:
        if self.closed is not None:
            return
        frame = json.loads(payload)
        self.frames.append(frame)
        self.raw.append(payload)
        if push:
            self.pushes.append(frame)
        self.came()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def rest(self, seconds: float) -> None:
        if self.resting is None:
            self.resting = seconds

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)
        self.came()

    def abort(self) -> None:
        self.close(1006, "")
