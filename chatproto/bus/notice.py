"""What travels on the bus: finished frames and the little that a hub has to know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from msgspec import Struct

from chatproto.domain.model import Known


class Follow(IntEnum):
    """What a notice means for whoever gets it.

    ``KEEP``: news of a conversation that the receiver follows · ``BEGIN``: the receiver follows it from here ·
    ``END``: and from here no longer · ``ASIDE``: news for those who do not follow it, the others know better ·
    ``HINT``: no news; only for those who follow it and for whom nothing else waits, and lost for all others.
    """

    KEEP = 0
    BEGIN = 1
    END = 2
    ASIDE = 3
    HINT = 4


class Audience(IntEnum):
    """Which of the clients of a topic a frame is for.

    ``ALL`` · ``PART2``: those that know part 2 of the protocol, as all guests do · ``GIVEN``: admins' that know the
    given document alone.
    """

    ALL = 0
    PART2 = 1
    GIVEN = 2


# Looking a member up on its class costs as much as making a small object.
KEEP, HINT = Follow.KEEP, Follow.HINT
ALL, PART2, GIVEN = Audience


Push = tuple[bytes, Audience]
"""A finished push, and for whom it is."""


class Notice(Struct, frozen=True):
    """News for the connections of a topic.

    :ivar frames: finished pushes, encoded once for all receivers, each with its :class:`Audience`: mostly whether an
        admin's client has to know part 2 for it. May be empty: then only the rev moves.
    :ivar conversation_id: with *rev* and *last_seq*, what receivers know after it; None: news of no conversation.
    :ivar steps: by how much it moves the rev. If by more than one, it is of as many messages, a frame each.
    :ivar but_not: an ``ix`` or a topic that gets no frame.
    :ivar close: a close code and reason; the connections have to go then.
    """

    topic: str
    frames: tuple[Push, ...] = ()
    conversation_id: int | None = None
    rev: int = 0
    last_seq: int = 0
    follow: Follow = Follow.KEEP
    but_not: str | None = None
    close: tuple[int, str] | None = None
    steps: int = 1

    def singly(self) -> Iterator[Notice]:
        """The same in notices of one step each."""
        for back, frame in zip(range(self.steps - 1, -1, -1), self.frames, strict=True):
            rev, last_seq = self.rev - back, self.last_seq - back
            yield Notice(self.topic, (frame,), self.conversation_id, rev, last_seq, self.follow, self.but_not)


@dataclass(frozen=True, slots=True)
class Missed:
    """What a connection did not get of a conversation.

    :ivar frames: pushes, each with its :class:`Audience`.
    :ivar known: what the connection knows afterwards; None when it follows the conversation no longer.
    :ivar too_many: so many messages are missing that the client has to fetch them itself.
    :ivar rev: of the conversation that it follows no longer: what is not newer has been told.
    """

    frames: Sequence[Push]
    known: Known | None
    too_many: bool = False
    rev: int = 0


Deliver = Callable[[Notice], None]
Publish = Callable[[Sequence[Notice]], None]
