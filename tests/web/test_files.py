from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from chatproto.web.files import chosen_range, disposition


class RangeTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Players ask for parts; what they may ask for stands in RFC 9110, 14.1.2."""
        for field, part in (
            (b"bytes=0-0", (0, 1)),
            (b"bytes=0-9", (0, 10)),
            (b"bytes=3-5", (3, 6)),
            (b"bytes=9-", (9, 10)),
            (b"bytes=0-", (0, 10)),
            (b"bytes=5-999999999999", (5, 10)),
            (b"bytes=-3", (7, 10)),
            (b"bytes=-99", (0, 10)),
        ):
            self.assertEqual(chosen_range(field, 10), part, field)

    def test_no_such_part(self) -> None:
        for field in (b"bytes=10-", b"bytes=10-20", b"bytes=999999999999-", b"bytes=-0"):
            start, end = chosen_range(field, 10) or (0, 1)
            self.assertEqual(start, end, field)

    def test_whole(self) -> None:
        """What cannot be understood, or asks for several parts, is answered by the whole."""
        for field in (
            *(None, b"", b"bytes=", b"bytes=-", b"bytes=5-3", b"bytes=a-b", b"bytes=0-1,3-4", b"lines=0-1"),
            *(b"bytes=+1-2", b"bytes=0x1-2", b"bytes=1-2-3", b"bytes=\xff", b"bytes=" + b"9" * 100 + b"-"),
        ):
            self.assertIsNone(chosen_range(field, 10), field)


class DispositionTests(SynchronousTestCase):
    def test_in_place(self) -> None:
        """Only what is shown without running anything is shown in place."""
        for media_type in ("image/png", "audio/webm", "video/mp4"):
            self.assertTrue(disposition(media_type, "a").startswith(b"inline;"))
        for media_type in ("application/octet-stream", "text/html", "image/svg+xml", "application/pdf", "text/plain"):
            self.assertTrue(disposition(media_type, "a").startswith(b"attachment;"))
        self.assertEqual(disposition("image/webp", None), b"inline")

    def test_name(self) -> None:
        """A file is downloaded by its name, whatever letters it has, by old browsers nearly so."""
        for title, field in (
            ("a.pdf", b"attachment; filename=\"a.pdf\"; filename*=UTF-8''a.pdf"),
            ("café.pdf", b"attachment; filename=\"cafe.pdf\"; filename*=UTF-8''caf%C3%A9.pdf"),
            ("中文", b"attachment; filename=\"file\"; filename*=UTF-8''%E4%B8%AD%E6%96%87"),
            ('a"b\\c%41', b"attachment; filename=\"a_b_c_41\"; filename*=UTF-8''a%22b%5Cc%2541"),
            ("\uff0e\uff0e\uff0fa", b"attachment; filename=\".._a\"; filename*=UTF-8''%EF%BC%8E%EF%BC%8E%EF%BC%8Fa"),
            ("a;b='c", b"attachment; filename=\"a;b='c\"; filename*=UTF-8''a%3Bb%3D%27c"),
        ):
            self.assertEqual(disposition("application/pdf", title), field)
