from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from chatproto.files.kinds import FILE, IMAGE, SHOWN, UNKNOWN, VIDEO, VOICE, sniff
from tests.files import samples


class SniffTests(SynchronousTestCase):
    def test_shown(self) -> None:
        """What people send each other is shown in place, as what it is."""
        for content, kind, media_type in (
            (samples.image("JPEG"), IMAGE, "image/jpeg"),
            (samples.photo((40, 30)), IMAGE, "image/jpeg"),
            (samples.image("PNG"), IMAGE, "image/png"),
            (samples.image("GIF"), IMAGE, "image/gif"),
            (samples.image("WEBP"), IMAGE, "image/webp"),
            (samples.image("AVIF"), IMAGE, "image/avif"),
            (samples.MP4, VIDEO, "video/mp4"),
            (samples.MOV, VIDEO, "video/quicktime"),
            (samples.WEBM, VIDEO, "video/webm"),
            (samples.M4A, VOICE, "audio/mp4"),
            (samples.OPUS, VOICE, "audio/ogg"),
            (samples.MP3, VOICE, "audio/mpeg"),
            (samples.AAC, VOICE, "audio/aac"),
            (samples.WAV, VOICE, "audio/wav"),
            (samples.FLAC, VOICE, "audio/flac"),
        ):
            self.assertEqual(sniff(content[:4096]), (kind, media_type))
            self.assertIn(media_type, SHOWN)

    def test_downloaded(self) -> None:
        """Everything that could run, or that browsers do not show, is a file, whatever its sender calls it."""
        for content in (
            *(samples.SVG, samples.HTML, samples.PDF, samples.ZIP, samples.HEIC, samples.AVI, samples.MKV),
            *(b"hello", b"x", b"\0" * 300, b"alert(1)", "中文".encode(), samples.image("BMP"), samples.image("TIFF")),
        ):
            for declared in ("", "image/png", "image/svg+xml", "text/html", "audio/webm", "video/mp4"):
                self.assertEqual(sniff(content, declared), (FILE, UNKNOWN), (content[:20], declared))

    def test_declared(self) -> None:
        """What records itself into a container says whether there is a picture in it; nothing else is believed."""
        for content, declared, found in (
            (samples.WEBM, "audio/webm;codecs=opus", (VOICE, "audio/webm")),
            (samples.WEBM, "Audio/WebM", (VOICE, "audio/webm")),
            (samples.WEBM, "video/mp4", (VIDEO, "video/webm")),
            (samples.MP4, "audio/mp4", (VOICE, "audio/mp4")),
            (samples.THEORA, "video/ogg", (VIDEO, "video/ogg")),
            (samples.MP4, "text/html", (VIDEO, "video/mp4")),
            (samples.MP3, "video/mpeg", (VOICE, "audio/mpeg")),
            (samples.image("PNG"), "audio/png", (IMAGE, "image/png")),
        ):
            self.assertEqual(sniff(content, declared), found, declared)

    def test_any_bytes(self) -> None:
        """Whatever comes, it is called something."""
        for size in (1, 2, 3, 7, 16, 100, 4096):
            for _ in range(50):
                self.assertIn(sniff(os.urandom(size)).kind, (IMAGE, VOICE, VIDEO, FILE))
