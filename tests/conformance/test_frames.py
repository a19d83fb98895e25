from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.conformance.echo import EchoFactory, EchoReception
from tests.connection.memory import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    Client,
    client_frame,
    close_frame,
    config,
    request,
    server_frames,
)

EURO = "€uro für Straße 你好 𝄞".encode()
NORMAL = (CLOSE, b"\x03\xe8")


def frame_with_length(opcode: int, size_field: bytes) -> bytes:
    return bytes((0x80 | opcode,)) + size_field + MASK


class FrameTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.reception = EchoReception(self.clock)
        self.factory = EchoFactory(config(), self.reception, self.clock)

    def client(self) -> Client:
        client = Client(self.factory, self.clock).shake_hands()
        self.assertIn(b"101 Switching Protocols", client.received())
        return client

    def assertEchoes(self, sent: bytes, *expected: tuple[int, bytes]) -> None:
        client = self.client()
        client.send(sent)
        self.assertEqual(client.frames(), list(expected))
        self.assertFalse(client.transport.disconnecting)

    def assertFails(self, sent: bytes, code: int, *before: tuple[int, bytes]) -> None:
        """The close code comes (not a dropped connection), nothing after it is taken, and TCP ends in order."""
        client = self.client()
        client.send(sent)
        client.send(client_frame(TEXT, b"too late"))
        frames = client.frames()
        self.assertEqual([opcode for opcode, _ in frames[: len(before) + 1]], [*(o for o, _ in before), CLOSE])
        self.assertEqual(frames[: len(before)], list(before))
        self.assertEqual(int.from_bytes(frames[len(before)][1][:2], "big"), code)
        self.assertEqual(len(frames), len(before) + 1)
        self.assertFalse(client.transport.disconnected, "aborted")
        client.lose()
        self.assertEqual(self.reception.ended[-1], code)

    def test_sizes(self) -> None:
        """Each of the three ways to write a length works, in both directions."""
        for size in (0, 1, 125, 126, 127, 128, 1000, 65535, 65536):
            self.assertEchoes(client_frame(TEXT, b"*" * size), (TEXT, b"*" * size))
            self.assertEchoes(client_frame(BINARY, b"\xfe" * size), (BINARY, b"\xfe" * size))

    def test_too_large(self) -> None:
        """1009 for what is past 64 KiB, as one frame, as a message in pieces, and before its bytes have come."""
        self.assertFails(client_frame(TEXT, b"*" * 65537), 1009)
        self.assertFails(frame_with_length(TEXT, b"\xff" + (2**62).to_bytes(8, "big")), 1009)
        pieces = client_frame(TEXT, b"*" * 65536, fin=False) + client_frame(CONTINUATION, b"*")
        self.assertFails(pieces, 1009)

    def test_many_fragments(self) -> None:
        """A message of too many fragments, empty ones too, is refused; one of just as many as are allowed is not."""
        empty = client_frame(CONTINUATION, fin=False)
        head, tail = client_frame(TEXT, b"a", fin=False), client_frame(CONTINUATION, b"b")
        factory = EchoFactory(config(max_fragments=300), self.reception, self.clock)
        allowed = Client(factory, self.clock).shake_hands()
        allowed.received()
        allowed.send(head + empty * 298 + tail)
        self.assertEqual(allowed.frames(), [(TEXT, b"ab")])
        allowed.send(head + empty * 299 + tail)
        ((opcode, payload),) = allowed.frames()
        self.assertEqual((opcode, payload[:2]), (CLOSE, b"\x03\xf1"))
        # Conformance suites send 4 MiB in pieces of 64 bytes, and an empty one at the end.
        self.assertGreater(config().max_fragments, (4 << 20) // 64)

    def test_fragments(self) -> None:
        """A message in pieces is one message, whatever pings come in between."""
        pieces = client_frame(TEXT, b"Hel", fin=False) + client_frame(CONTINUATION, b"", fin=False)
        self.assertEchoes(pieces + client_frame(CONTINUATION, b"lo"), (TEXT, b"Hello"))
        between = client_frame(PING, b"1") + client_frame(CONTINUATION, b"l", fin=False) + client_frame(PING, b"2")
        self.assertEchoes(
            pieces + between + client_frame(CONTINUATION, b"o"), (PONG, b"1"), (PONG, b"2"), (TEXT, b"Hello")
        )

    def test_fragment_order(self) -> None:
        """Continuations without a beginning and beginnings inside a message are 1002."""
        self.assertFails(client_frame(CONTINUATION, b"x"), 1002)
        self.assertFails(client_frame(CONTINUATION, b"x", fin=False), 1002)
        self.assertFails(client_frame(TEXT, b"x", fin=False) + client_frame(TEXT, b"y"), 1002)
        self.assertFails(client_frame(TEXT, b"x", fin=False) + client_frame(BINARY, b"y"), 1002)
        done = client_frame(TEXT, b"x", fin=False) + client_frame(CONTINUATION, b"y")
        self.assertFails(done + client_frame(CONTINUATION, b"z"), 1002, (TEXT, b"xy"))

    def test_utf8(self) -> None:
        """Text comes back as it was, also when a character is cut in two by a frame or a packet."""
        self.assertEchoes(client_frame(TEXT, EURO), (TEXT, EURO))
        for cut in range(len(EURO)):
            pieces = client_frame(TEXT, EURO[:cut], fin=False) + client_frame(CONTINUATION, EURO[cut:])
            self.assertEchoes(pieces, (TEXT, EURO))

    def test_bad_utf8(self) -> None:
        """1007 for what is not UTF-8: cut off, overlong, a surrogate, past U+10FFFF."""
        for bad in (b"\xff", b"\xce", b"ab\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", EURO[:1]):
            self.assertFails(client_frame(TEXT, bad), 1007)
            self.assertFails(client_frame(TEXT, b"ok " + bad + b" ok"), 1007)
            pieces = client_frame(TEXT, b"ok" + bad[:1], fin=False) + client_frame(CONTINUATION, bad[1:] + b"ok")
            self.assertFails(pieces, 1007)
        self.assertFails(client_frame(TEXT, b"first") + client_frame(TEXT, b"\xff"), 1007, (TEXT, b"first"))

    def test_bad_utf8_early(self) -> None:
        """A message that cannot become valid any more is refused before its end has come."""
        self.assertFails(client_frame(TEXT, b"\xce\xba\xff", fin=False), 1007)

    def test_reserved_bits(self) -> None:
        for rsv in range(1, 8):
            self.assertFails(client_frame(TEXT, b"x", rsv=rsv), 1002)
            self.assertFails(client_frame(PING, b"x", rsv=rsv), 1002)

    def test_reserved_opcodes(self) -> None:
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            self.assertFails(client_frame(opcode), 1002)
            self.assertFails(client_frame(TEXT, b"a") + client_frame(opcode, b"x"), 1002, (TEXT, b"a"))

    def test_unmasked(self) -> None:
        """RFC 6455, 5.1: a server must close when a frame comes unmasked."""
        self.assertFails(client_frame(TEXT, b"x" * 10, mask=None), 1002)
        self.assertFails(client_frame(PING, mask=None), 1002)

    def test_length_not_minimal(self) -> None:
        """RFC 6455, 5.2: the shortest way to write a length is the only one."""
        self.assertFails(frame_with_length(TEXT, b"\xfe\x00\x05") + b"*" * 5, 1002)
        self.assertFails(frame_with_length(TEXT, b"\xff" + (65535).to_bytes(8, "big")) + b"*" * 65535, 1002)

    def test_control_frames(self) -> None:
        """A ping gets its own payload back, up to 125 bytes; more, or in fragments, is 1002; a pong gets nothing."""
        for payload in (b"", b"hello", b"\x00\xff", b"*" * 125):
            self.assertEchoes(client_frame(PING, payload), (PONG, payload))
        self.assertEchoes(client_frame(PONG, b"unasked"))
        self.assertFails(client_frame(PING, b"*" * 126), 1002)
        self.assertFails(client_frame(PING, b"x", fin=False), 1002)
        self.assertFails(client_frame(PONG, b"x", fin=False), 1002)

    def test_close_codes(self) -> None:
        """Every code that may be sent is answered; TCP ends only after the answer is written."""
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
            client = self.client()
            client.send(close_frame(code, b"bye"))
            self.assertEqual(client.frames(), [NORMAL])
            self.assertTrue(client.transport.disconnecting)
            self.assertFalse(client.transport.disconnected)
            client.lose()
            self.assertEqual(self.reception.ended[-1], code)

    def test_close_without_code(self) -> None:
        client = self.client()
        client.send(client_frame(CLOSE))
        self.assertEqual(client.frames(), [NORMAL])
        client.lose()
        self.assertEqual(self.reception.ended, [None])

    def test_bad_close(self) -> None:
        """Codes that may not be sent, half a code, a reason that is not UTF-8, a frame that is too long."""
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
            self.assertFails(close_frame(code), 1002)
        self.assertFails(client_frame(CLOSE, b"\x03"), 1002)
        self.assertFails(close_frame(1000, b"\xce\xba\xff"), 1007)
        self.assertFails(close_frame(1000, b"*" * 124), 1002)

    def test_nothing_after_close(self) -> None:
        """What comes after the close frame is not taken."""
        client = self.client()
        client.send(close_frame(1000) + client_frame(TEXT, b"late") + client_frame(PING, b"late"))
        self.assertEqual(client.frames(), [NORMAL])

    def test_every_boundary(self) -> None:
        """However the network cuts a conversation, the answers are the same."""
        conversation = b"".join(
            (
                request(),
                client_frame(TEXT, b"one"),
                client_frame(TEXT, EURO * 5),
                client_frame(TEXT),
                client_frame(BINARY, b"\x00\xff"),
                client_frame(TEXT, EURO[:2], fin=False),
                client_frame(PING, b"between"),
                client_frame(CONTINUATION, EURO[2:]),
                client_frame(TEXT, b"last"),
                close_frame(4000, b"bye"),
            )
        )
        expected = [
            (TEXT, b"one"),
            (TEXT, EURO * 5),
            (TEXT, b""),
            (BINARY, b"\x00\xff"),
            (PONG, b"between"),
            (TEXT, EURO),
            (TEXT, b"last"),
            NORMAL,
        ]
        for cut in range(1, len(conversation)):
            self.assertConversation((conversation[:cut], conversation[cut:]), expected)
        self.assertConversation((conversation,), expected)
        self.assertConversation(tuple(conversation[at : at + 1] for at in range(len(conversation))), expected)

    def assertConversation(self, packets: tuple[bytes, ...], expected: list[tuple[int, bytes]]) -> None:
        client = Client(self.factory, self.clock)
        for packet in packets:
            client.send(packet)
        _, _, frames = client.received().partition(b"\r\n\r\n")
        self.assertEqual(server_frames(frames), expected)
        client.lose()
        self.assertEqual(self.reception.ended[-1], 4000)
