"""Both places for files do the same, and each what only it has to."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from itertools import count
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from twisted.trial.unittest import SynchronousTestCase

from chatproto.errors import StartError
from chatproto.files.local import Directory
from chatproto.files.place import NotThere, Place, Unavailable
from chatproto.files.s3 import Bucket
from chatproto.files.store import arrivals_of, place_of
from tests.database import scratch
from tests.files import bucket

_numbers = count(1)


class PlaceCases:
    """What every place does. ``self.place`` is one that is prepared."""

    place: Place
    folder: Path

    def keep(self: object, content: bytes = b"0123456789") -> str:
        assert isinstance(self, SynchronousTestCase) and isinstance(self, PlaceCases)
        name = secrets.token_hex(20)
        arrived = self.folder / secrets.token_hex(4)
        arrived.write_bytes(content)
        self.place.keep(arrived, name, "image/png")
        return name

    def test_kept(self) -> None:
        """What was kept is read, whole or in part, also past its end."""
        assert isinstance(self, SynchronousTestCase)
        name = self.keep()
        for start, size, part in (
            (0, 10, b"0123456789"),
            (0, 1, b"0"),
            (9, 1, b"9"),
            (3, 4, b"3456"),
            (5, 100, b"56789"),
        ):
            self.assertEqual(self.place.read(name, start, size), part)

    def test_two(self) -> None:
        assert isinstance(self, SynchronousTestCase)
        one, two = self.keep(b"one"), self.keep(b"two")
        self.place.keep(self.written(b"small"), f"{one}-thumb", "image/jpeg")
        self.assertEqual(
            [self.place.read(name, 0, 9) for name in (one, two, f"{one}-thumb")], [b"one", b"two", b"small"]
        )

    def test_removed(self) -> None:
        """What is removed is gone; removing what is not there is no fault."""
        assert isinstance(self, SynchronousTestCase)
        name = self.keep()
        self.place.remove(name)
        self.assertRaises(NotThere, self.place.read, name, 0, 1)
        self.removed_twice(name)

    def test_names(self) -> None:
        """Nothing but a name of ours ever becomes a path or a key."""
        assert isinstance(self, SynchronousTestCase)
        for name in ("", "..", "../x", "a" * 39, "A" * 40, "a" * 41, "a" * 40 + "/x", "/etc/passwd", "a" * 40 + "\n"):
            self.assertRaises(ValueError, self.place.read, name, 0, 1)
            self.assertRaises(ValueError, self.place.remove, name)
            self.assertRaises(ValueError, self.place.keep, self.written(b"x"), name, "image/png")

    def written(self, content: bytes) -> Path:
        path = self.folder / secrets.token_hex(4)
        path.write_bytes(content)
        return path

    def removed_twice(self, name: str) -> None:
        self.place.remove(name)


class DirectoryTests(PlaceCases, SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = scratch()
        self.addCleanup(shutil.rmtree, self.folder)
        self.root = self.folder / "some" / "files"
        self.place = Directory(self.root)
        self.place.prepare()

    def test_only_ours(self) -> None:
        """Other users of the machine read nothing."""
        name = self.keep()
        for path in (self.root, self.root / name[:2]):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700)

    def test_moved(self) -> None:
        """A file is moved and not copied: it is there whole or not at all."""
        path = self.written(b"x")
        number = path.stat().st_ino
        name = secrets.token_hex(20)
        self.place.keep(path, name, "image/png")
        self.assertFalse(path.exists())
        self.assertEqual((self.root / name[:2] / name).stat().st_ino, number)

    def test_links(self) -> None:
        """A link that somebody laid there leads nowhere."""
        name = self.keep()
        (self.root / name[:2] / name).unlink()
        (self.root / name[:2] / name).symlink_to("/etc/hostname")
        self.assertRaises(OSError, self.place.read, name, 0, 1)

    def test_cannot_be_made(self) -> None:
        """The start says in one line why nothing can be kept."""
        self.written(b"").rename(self.folder / "file")
        error = self.assertRaises(StartError, Directory(self.folder / "file" / "files").prepare)
        self.assertIn(f"{self.folder}/file/files", str(error))

    def test_where(self) -> None:
        """Files arrive on the disk where they stay, each node in a directory of its own."""
        data = Path("/data")
        self.assertEqual(arrivals_of(None, data, "n1"), data / "files" / "arriving" / "n1")
        self.assertEqual(arrivals_of(Path("/mnt"), data, "n1"), Path("/mnt/arriving/n1"))
        self.assertEqual(arrivals_of("s3://bucket", data, "n1"), data / "arriving" / "n1")
        self.assertIsInstance(place_of(Path("/mnt"), None, data), Directory)


class BucketTests(PlaceCases, SynchronousTestCase):
    """Against a server of its own kind, over its socket."""

    if bucket.MISSING:
        skip = bucket.MISSING

    def setUp(self) -> None:
        self.patch(os, "environ", {**os.environ, **bucket.ENVIRONMENT})
        self.folder = scratch()
        self.addCleanup(shutil.rmtree, self.folder)
        self.bucket = bucket.new_bucket(f"files{next(_numbers)}")
        self.place = Bucket(f"s3://{self.bucket}/of/chat", bucket.endpoint(), 4)
        self.place.prepare()

    def test_prefix(self) -> None:
        """Files stand below the prefix, with their type, and nobody else's are touched."""
        name = self.keep()
        self.assertEqual(bucket.names(self.bucket), [f"of/chat/{name}"])
        found = bucket.client().head_object(Bucket=self.bucket, Key=f"of/chat/{name}")
        self.assertEqual(found["ContentType"], "image/png")

    def test_not_public(self) -> None:
        """Who has no key of the bucket cannot read from it, even with the name."""
        name = self.keep()
        address = f"{bucket.endpoint()}/{self.bucket}/of/chat/{name}"
        self.assertRaises(HTTPError, urlopen, address)

    def test_large(self) -> None:
        """More than the server is given at once comes back byte by byte."""
        content = secrets.token_bytes((3 << 20) + 7)
        name = self.keep(content)
        part = self.place.part
        read = b"".join(self.place.read(name, at, part) for at in range(0, len(content), part))
        self.assertEqual(read, content)

    def test_no_bucket(self) -> None:
        """A bucket that is not there, or a wrong key, stops the start with one line."""
        error = self.assertRaises(StartError, Bucket("s3://nothing", bucket.endpoint(), 1).prepare)
        self.assertEqual(str(error), "--files s3://nothing cannot be used: NoSuchBucket")
        self.patch(os, "environ", {**os.environ, "AWS_SECRET_ACCESS_KEY": "wrong"})
        error = self.assertRaises(StartError, Bucket(f"s3://{self.bucket}", bucket.endpoint(), 1).prepare)
        self.assertEqual(str(error), f"--files s3://{self.bucket} cannot be used: SignatureDoesNotMatch")

    def test_no_credentials(self) -> None:
        without = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        home = {"HOME": str(self.folder), "AWS_EC2_METADATA_DISABLED": "true"}
        self.patch(os, "environ", {**without, **home})
        error = self.assertRaises(StartError, Bucket(f"s3://{self.bucket}", bucket.endpoint(), 1).prepare)
        self.assertIn("no credentials", str(error))

    def test_away(self) -> None:
        """A server that does not answer is told from a file that is not there."""
        place = Bucket("s3://files", "http://127.0.0.1:9", 1)
        name = secrets.token_hex(20)
        self.assertRaises(Unavailable, place.prepare)
        self.assertRaises(Unavailable, place.read, name, 0, 1)
        self.assertRaises(Unavailable, place.keep, self.written(b"x"), name, "image/png")
        self.assertRaises(Unavailable, place.remove, name)
