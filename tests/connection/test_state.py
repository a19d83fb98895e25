from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.state import ConnectionState, Slot


class MemoryLink:
    """Remembers what it was given: (payload, push) of each frame, and the closes."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, bool]] = []
        self.closed: list[tuple[int, str]] = []
        self.unsent = 0

    @property
    def congested(self) -> bool:
        return False

    def send(self, payload: bytes, push: bool = False) -> None:
        self.frames.append((payload, push))

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def rest(self, seconds: float) -> None: ...

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    def abort(self) -> None: ...


def connect(ix: str = "c1") -> tuple[ConnectionState, MemoryLink]:
    link = MemoryLink()
    return ConnectionState(ix, link, "192.0.2.1", 0.0), link


class Order(SynchronousTestCase):
    def test_replies(self) -> None:
        """Replies come in the order of the requests, whichever is ready first."""
        connection, link = connect()
        first, second, third = connection.owe(), connection.owe(), connection.owe()
        connection.answer(third, b"3")
        connection.answer(second, b"2")
        self.assertEqual(link.frames, [])
        connection.answer(first, b"1")
        self.assertEqual(link.frames, [(b"1", False), (b"2", False), (b"3", False)])
        self.assertFalse(connection.out)

    def test_a_reply_is_kept_once(self) -> None:
        """What has been sent is not kept with its command: a large reply would stay in memory for seconds."""
        connection, _ = connect()
        first, second = connection.owe(), connection.owe()
        connection.answer(second, b"2")
        self.assertEqual(second.payload, b"2")
        connection.answer(first, b"1")
        alone = connection.owe()
        connection.answer(alone, b"3")
        self.assertEqual((first.payload, second.payload, alone.payload), (None, None, None))

    def test_unsent(self) -> None:
        """Something waits while the peer has not taken all, or a reply is ready behind one that is not."""
        connection, link = connect()
        self.assertFalse(connection.unsent)
        link.unsent = 1
        self.assertTrue(connection.unsent)
        link.unsent = 0
        slow, done = connection.owe(), connection.owe()
        self.assertFalse(connection.unsent)
        connection.answer(done, b"done")
        self.assertTrue(connection.unsent)
        connection.answer(slow, b"slow")
        self.assertFalse(connection.unsent)

    def test_push_alone(self) -> None:
        """News that no owed reply concerns comes at once, before and while commands are under way."""
        connection, link = connect()
        connection.push(b"a")
        connection.owe()
        connection.owe()
        connection.push(b"b")
        self.assertEqual(link.frames, [(b"a", True), (b"b", True)])

    def test_push_behind_its_reply(self) -> None:
        """A push does not come before the reply of the request that caused it (first 32400, then 32402)."""
        connection, link = connect()
        slow, transfer = connection.owe(), connection.owe()
        connection.answer(transfer, b"32400")
        connection.push(b"32402")
        connection.push(b"32099")
        last = connection.owe()
        connection.answer(last, b"last")
        connection.push(b"more")
        self.assertEqual(link.frames, [])
        connection.answer(slow, b"slow")
        self.assertEqual(
            link.frames,
            [
                (b"slow", False),
                (b"32400", False),
                (b"32402", True),
                (b"32099", True),
                (b"last", False),
                (b"more", True),
            ],
        )

    def test_push_does_not_wait_for_later_commands(self) -> None:
        """News behind a finished reply leaves with it, though a later command still runs."""
        connection, link = connect()
        slow, done, later = connection.owe(), connection.owe(), connection.owe()
        connection.answer(done, b"done")
        connection.push(b"news")
        connection.answer(slow, b"slow")
        self.assertEqual([payload for payload, _ in link.frames], [b"slow", b"done", b"news"])
        connection.answer(later, b"later")
        self.assertEqual(link.frames[-1], (b"later", False))

    @settings(deadline=None, database=None)
    @given(st.lists(st.one_of(st.just("owe"), st.just("push"), st.integers(0, 9)), max_size=40))
    def test_any_order(self, steps: list[str | int]) -> None:
        """Nothing is lost or told twice; replies, and pushes among themselves, keep their order, a reply its lead."""
        connection, link = connect()
        owed: list[tuple[int, Slot]] = []
        asked = pushed = 0
        leads: dict[bytes, set[bytes]] = {}
        finished: set[bytes] = set()
        for step in [*steps, *[0] * len(steps)]:
            if step == "owe":
                owed.append((asked, connection.owe()))
                asked += 1
            elif step == "push":
                news = b"push %d" % pushed
                leads[news] = set(finished)
                connection.push(news)
                pushed += 1
            elif owed and isinstance(step, int):
                number, slot = owed.pop(step % len(owed))
                finished.add(b"reply %d" % number)
                connection.answer(slot, b"reply %d" % number)
        told = [payload for payload, _ in link.frames]
        self.assertEqual([p for p, push in link.frames if not push], [b"reply %d" % n for n in range(asked)])
        self.assertEqual([p for p, push in link.frames if push], [b"push %d" % n for n in range(pushed)])
        for news, replies in leads.items():
            self.assertLessEqual(replies, set(told[: told.index(news)]))
