from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chatproto.files import thumbnail
from chatproto.files.pictures import EDGE, MEMORY, SECONDS, Picture, Pictures
from tests.database import scratch
from tests.files import samples


class ThumbnailTests(SynchronousTestCase):
    """The program, run as it is run."""

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.source, self.target = folder / "image", folder / "thumbnail"

    @property
    def command(self) -> list[str]:
        program = (sys.executable, "-I", thumbnail.__file__, self.source, self.target)
        return [*map(str, program), str(EDGE), str(MEMORY), str(SECONDS)]

    def look(self, content: bytes) -> dict[str, Any] | None:
        self.source.write_bytes(content)
        done = subprocess.run(self.command, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0 if done.stdout else 1, done.stderr)
        return json.loads(done.stdout) if done.stdout else None

    def small(self) -> Image.Image:
        with Image.open(self.target) as made:
            made.load()
            return made

    def test_photo(self) -> None:
        """A photo gets a small copy, with its sides as they were to each other."""
        self.assertEqual(
            self.look(samples.photo((1600, 900))), {"width": 1600, "height": 900, "thumbnail": "image/jpeg"}
        )
        small = self.small()
        self.assertEqual((small.size, small.format), ((640, 360), "JPEG"))
        self.assertLess(self.target.stat().st_size, self.source.stat().st_size / 4)

    def test_turned(self) -> None:
        """A photo taken with the camera on its side stands upright, in its size and in the thumbnail."""
        for orientation in range(1, 9):
            found = self.look(samples.photo((1600, 900), orientation))
            upright = (900, 1600) if orientation >= 5 else (1600, 900)
            assert found is not None
            self.assertEqual((found["width"], found["height"]), upright, orientation)
            self.assertEqual(self.small().size, (360, 640) if orientation >= 5 else (640, 360), orientation)

    def test_turned_right(self) -> None:
        """Upright means: what was to be the top is the top."""
        picture = Image.new("RGB", (2000, 1000), "white")
        picture.paste("black", (0, 0, 400, 1000))
        exif = Image.Exif()
        exif[samples.ORIENTATION] = 6  # the left edge of what is stored is the top of what is shown
        out = io.BytesIO()
        picture.save(out, "JPEG", exif=exif)
        self.look(out.getvalue())
        small = self.small().convert("L")
        self.assertEqual(small.size, (320, 640))
        top, bottom = small.crop((0, 0, 320, 40)), small.crop((0, 600, 320, 640))
        self.assertLess(max(top.tobytes()), 50)
        self.assertGreater(min(bottom.tobytes()), 200)

    def test_nothing_of_the_camera(self) -> None:
        """Neither the place nor the camera can be read from a thumbnail."""
        content = samples.photo()
        self.assertIn(b"SecretCam", content)
        self.look(content)
        self.assertNotIn(b"SecretCam", self.target.read_bytes())
        self.assertEqual(dict(self.small().getexif()), {})

    def test_clear(self) -> None:
        """What one could see through one can still see through."""
        for content in (
            samples.image("PNG", (900, 900), "RGBA"),
            samples.image("PNG", (900, 900), "LA"),
            samples.image("PNG", (900, 900), "P", transparency=0),
            samples.image("WEBP", (900, 900), "RGBA"),
        ):
            found = self.look(content)
            assert found is not None
            self.assertEqual(found["thumbnail"], "image/webp")
            self.assertTrue(self.small().has_transparency_data)

    def test_modes(self) -> None:
        """Black and white, few colours, many, those of printers: all get a thumbnail."""
        for format, mode in (
            ("PNG", "1"),
            ("PNG", "L"),
            ("PNG", "I;16"),
            ("PNG", "P"),
            ("JPEG", "L"),
            ("JPEG", "CMYK"),
            ("GIF", "P"),
            ("WEBP", "RGB"),
            ("AVIF", "RGB"),
        ):
            found = self.look(samples.image(format, (900, 700), mode))
            self.assertEqual(found, {"width": 900, "height": 700, "thumbnail": "image/jpeg"}, (format, mode))
            self.assertEqual(self.small().size, (640, 498))

    def test_small(self) -> None:
        """A small image is shown as it is; one with large bytes in few pixels is not."""
        self.assertEqual(self.look(samples.image("PNG", (640, 480))), {"width": 640, "height": 480, "thumbnail": None})
        self.assertFalse(self.target.exists())
        found = self.look(samples.image("PNG", (641, 480)))
        assert found is not None
        self.assertEqual(found["thumbnail"], "image/jpeg")
        noise = io.BytesIO()
        Image.effect_noise((640, 480), 80).save(noise, "PNG")
        self.assertGreater(len(noise.getvalue()), thumbnail.SMALL)
        found = self.look(noise.getvalue())
        assert found is not None
        self.assertEqual(found["thumbnail"], "image/jpeg")

    def test_strips(self) -> None:
        """A picture as narrow as a hair is still one."""
        for size in ((20_000, 1), (1, 20_000)):
            found = self.look(samples.image("PNG", size))
            assert found is not None
            self.assertEqual((found["width"], found["height"]), size)

    def test_bomb(self) -> None:
        """A few bytes that would become gigabytes are not unpacked."""
        self.assertLess(len(samples.bomb()), 1 << 18)
        self.assertIsNone(self.look(samples.bomb()))
        self.assertFalse(self.target.exists())

    def test_many_scans(self) -> None:
        """Nor are those that would be gone over again and again, for 75 bytes each time."""
        image = io.BytesIO()
        Image.new("L", (640, 480)).save(image, "JPEG", progressive=True)
        content, end = image.getvalue()[:-2], image.getvalue()[-2:]
        once_more = content[content.rindex(b"\xff\xda") :]
        known = thumbnail.scans(content + end)
        most = content + once_more * (thumbnail.MOST_SCANS - known) + end
        self.assertEqual(thumbnail.scans(most), thumbnail.MOST_SCANS)
        # Behind the end phones put a video, in which anything may stand.
        for content, found in ((most + b"\xff\xda" * 100, True), (most[:-2] + once_more + end, False)):
            self.assertEqual(self.look(content) is not None, found)

    def test_scans(self) -> None:
        """Photos have few, whatever their cameras wrote into them."""
        for content, number in (
            (samples.photo((1600, 900)), 1),
            (samples.photo((1600, 900), 6), 1),
            (b"\xff\xd8\xff\xe1\0\x08\xff\xda\xff\xda\xff\xda\xff\xff\xda\0\x02x\xff\0\xff\xd7", 1),
            (b"\xff\xd8\xff\xda", 1),
            (b"", 0),
        ):
            self.assertEqual(thumbnail.scans(content), number)

    def test_largest(self) -> None:
        """What large cameras take is no bomb, and fits into the memory that the program has."""
        found = self.look(samples.blank((8000, 6250), "RGBA"))
        self.assertEqual(found, {"width": 8000, "height": 6250, "thumbnail": "image/webp"})
        self.assertIsNone(self.look(samples.blank((8000, 6251), "1")))

    def test_gives_way(self) -> None:
        """Conversations go on at their pace while images are looked at, however many want all the time there is."""
        os.mkfifo(self.source)
        with subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as looking:
            opened, nice = None, 0
            while opened is None and looking.poll() is None:
                with contextlib.suppress(OSError):  # until somebody reads it
                    opened = os.open(self.source, os.O_WRONLY | os.O_NONBLOCK)
                    nice = os.getpriority(os.PRIO_PROCESS, looking.pid)
            assert opened is not None
            os.close(opened)
        self.assertEqual(nice, min(os.getpriority(os.PRIO_PROCESS, 0) + 5, 19))

    def test_no_image(self) -> None:
        """What only begins like an image is none."""
        whole = samples.photo()
        for content in (
            *(b"", b"x", whole[:1000], whole[:-5000], samples.GIF_AND_SCRIPT, samples.SVG, samples.PDF),
            *(samples.image("BMP"), samples.image("TIFF"), samples.image("PNG")[:60], samples.MP4),
        ):
            self.assertIsNone(self.look(content), content[:20])


class PicturesTests(TestCase):
    async def test_several(self) -> None:
        """Several at once are looked at one after the other, and what is no image does no harm to those that are."""
        folder = scratch()
        self.addCleanup(shutil.rmtree, folder)
        pictures = Pictures(reactor)
        contents = [samples.photo((800, 600)), b"nothing", samples.image("PNG"), samples.bomb(), samples.photo()]
        waiting = []
        for number, content in enumerate(contents):
            source = folder / str(number)
            source.write_bytes(content)
            waiting.append(Deferred.fromCoroutine(pictures.look(source, folder / f"{number}t")))
        self.assertEqual(
            await gatherResults(waiting),
            [Picture(800, 600, "image/jpeg"), None, Picture(8, 6, None), None, Picture(1600, 900, "image/jpeg")],
        )
