"""What a place for files has to do; :mod:`chatproto.files.local` and :mod:`chatproto.files.s3` are such."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

NAME = re.compile(r"[0-9a-f]{40}(?:-thumb)?")
"""What a file is called: 160 random bits. Nothing else ever becomes a path or a key."""


class NotThere(Exception):
    """There is no such file, although the database knows it."""


class Unavailable(Exception):
    """The place does not answer, or refuses; ``str()`` is for the log."""


class Place(Protocol):
    """Every method blocks, and is called in threads.

    :raises Unavailable: of every method.
    :raises OSError: of every method.

    :ivar part: bytes that are read at once.
    """

    part: int

    def prepare(self) -> None:
        """See whether anything can be kept here, and make what is missing for it.

        :raises StartError: it can not; one line that says why.
        """

    def keep(self, path: Path, name: str, media_type: str) -> None:
        """Take a whole file; nothing of it is there before all of it is. *path* may be moved.

        :raises UploadRefused: there is no room.
        """

    def read(self, name: str, start: int, size: int) -> bytes:
        """:raises NotThere: no such file."""

    def remove(self, name: str) -> None:
        """It need not be there."""


def checked(name: str) -> str:
    """:raises ValueError: that is no name of ours."""
    if not NAME.fullmatch(name):
        raise ValueError("not the name of a file")
    return name
