"""Why a file is not taken."""

from __future__ import annotations

from typing import Any


class UploadRefused(Exception):
    """A file is not taken; the words are those of docs/protocol.md, *Files over HTTP*.

    :param error: the word.
    :param details: what else the reply says.
    """

    def __init__(self, error: str, **details: Any) -> None:
        super().__init__(error, details)
        self.error = error
        self.details = details
