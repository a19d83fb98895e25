"""The bus of one process: what is published is delivered here, at once."""

from __future__ import annotations

from collections.abc import Sequence

from chatproto.bus.notice import Deliver, Notice, Skip


class LocalBus:
    """Publishes to the hub of this process only; other processes on the database find the truth there."""

    def __init__(self) -> None:
        self._deliver: Deliver | None = None
        self._skip: Skip | None = None

    def attach(self, deliver: Deliver, skip: Skip | None = None) -> None:
        """Name the hub of this process."""
        self._deliver = deliver
        self._skip = skip

    def skips(self, topic: str, ix: str, conversation_id: int, rev: int, last_seq: int) -> bool:
        """Whether news for *topic* that says nothing to the connection *ix* needs no notice, as nobody else listens.

        Then that connection knows *rev* from here on.
        """
        return self._skip is not None and self._skip(topic, ix, conversation_id, rev, last_seq)

    def publish(self, notices: Sequence[Notice]) -> None:
        """Tell the subscribers, in order."""
        if self._deliver is not None:
            for notice in notices:
                self._deliver(notice)

    async def subscribe(self, topic: str) -> None:
        """Returns once nothing published on *topic* can be missed any more."""

    def unsubscribe(self, topic: str) -> None: ...
