"""The bus of one process: what is published is delivered here, at once."""

from __future__ import annotations

from collections.abc import Sequence

from chatproto.bus.notice import Deliver, Notice


class LocalBus:
    """Publishes to the hub of this process only; other processes on the database find the truth there."""

    def __init__(self) -> None:
        self._deliver: Deliver | None = None

    def attach(self, deliver: Deliver) -> None:
        """Name the hub of this process."""
        self._deliver = deliver

    def publish(self, notices: Sequence[Notice]) -> None:
        """Tell the subscribers, in order."""
        if self._deliver is not None:
            for notice in notices:
                self._deliver(notice)

    async def subscribe(self, topic: str) -> None:
        """Returns once nothing published on *topic* can be missed any more."""

    def unsubscribe(self, topic: str) -> None: ...
