"""The benchmark's own clients: they answer what has to be answered, and nothing that has not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench.peers import Inbox, frame, request
from tests.integration.raw import frame as server_frame


def from_server(payload: bytes, opcode: int) -> bytes:
    return server_frame(payload, 0x80 | opcode, masked=False)


class InboxTests(SynchronousTestCase):
    def test_pings(self) -> None:
        """A ping is answered with what it carried, wherever the network cuts."""
        data = from_server(b"x" * 300, 1) + from_server(b"beat", 9) + from_server(b"y" * 70_000, 1)
        for cut in (0, 1, 3, 200, 306, 311, 400):
            inbox = Inbox(keeps=True)
            answers = inbox.take(data[:cut]) + inbox.take(data[cut:])
            self.assertEqual(answers, frame(b"beat", 10))
            self.assertEqual([len(text) for text in inbox.texts], [300, 70_000])

    def test_nothing_is_kept(self) -> None:
        """Who is there for long does not gather what comes."""
        inbox = Inbox()
        inbox.take(from_server(b"news", 1) * 1000)
        self.assertEqual(inbox.texts, [])

    def test_close(self) -> None:
        """A close is answered once, with its code; not where it was the answer."""
        close = from_server(b"\x03\xe9shutting down", 8)
        inbox = Inbox()
        self.assertEqual(inbox.take(close), frame(b"\x03\xe9", 8))
        self.assertTrue(inbox.ended)
        self.assertEqual(inbox.take(close), b"")
        leaving = Inbox()
        leaving.closing = True
        self.assertEqual(leaving.take(close), b"")

    def test_request(self) -> None:
        """The handshake is whole, and half of it is not."""
        whole = request(8420)
        self.assertTrue(whole.endswith(b"==\r\n\r\n"))
        self.assertEqual(whole.count(b"\r\n\r\n"), 1)
