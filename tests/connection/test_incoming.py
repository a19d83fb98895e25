from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.incoming import MOST, next_text
from tests.connection.memory import BINARY, CONTINUATION, PING, TEXT, client_frame


class NextTextTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        """Texts come out as they were sent, whatever their length, and where the next begins is right."""
        for size in (1, 3, 4, 125, 126, 127, MOST):
            frame = client_frame(TEXT, b"x" * size)
            self.assertEqual(next_text(b"ab" + frame + b"rest", 2), (b"x" * size, 2 + len(frame)))

    def test_left_alone(self) -> None:
        """Whatever is not surely right is left to who can say what is wrong with it."""
        for frame in (
            b"",
            client_frame(TEXT),
            client_frame(TEXT, b"*" * (MOST + 1)),
            client_frame(TEXT, b"*" * 70_000),
            client_frame(TEXT, b"x", mask=None),
            client_frame(TEXT, b"x" * 200, mask=None),
            client_frame(TEXT, b"x", fin=False),
            client_frame(TEXT, b"x", rsv=4),
            client_frame(TEXT, b"\xff"),
            client_frame(TEXT, "€".encode()[:2]),
            client_frame(BINARY, b"x"),
            client_frame(CONTINUATION, b"x"),
            client_frame(PING, b"x"),
            b"\x81\xfe\x00\x05abcdhello",
        ):
            self.assertIsNone(next_text(frame, 0), frame)

    def test_cut(self) -> None:
        """A frame that is not all there is no frame yet."""
        for payload in (b"hello", b"*" * 300):
            frame = client_frame(TEXT, payload)
            for size in range(len(frame)):
                self.assertIsNone(next_text(frame[:size], 0))

    @given(some.text(min_size=1, max_size=500), some.binary(min_size=4, max_size=4))
    def test_any_text(self, text: str, mask: bytes) -> None:
        """Any text under any mask comes out as it went in."""
        payload = text.encode()
        frame = client_frame(TEXT, payload, mask=mask)
        self.assertEqual(next_text(frame, 0), (payload, len(frame)) if len(payload) <= MOST else None)

    @given(some.binary(max_size=40))
    def test_anything(self, data: bytes) -> None:
        """Nothing that a client sends makes it fail."""
        found = next_text(b"\x81" + data, 0)
        self.assertTrue(found is None or found[1] <= len(data) + 1)
