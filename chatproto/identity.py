"""Who this node is: a name that outlives a restart, held by one process at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

from chatproto.errors import StartError


class NodeName:
    """The file ``node`` in the data directory, locked while the process lives.

    What a killed process left in the database is ended at the next start, because the name is the same.
    """

    def __init__(self, data: Path) -> None:
        self._path = data / "node"
        self._file: int | None = None

    def take(self) -> str:
        """The name, made at the first start.

        :raises StartError: another process has it, or the file cannot be used.
        """
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"{self._path}: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise StartError(
                f"{self._path.parent} is in use by another chatproto: give each a --data of its own"
            ) from None
        self._file = file
        name = os.read(file, 64).decode()
        if not name:
            name = secrets.token_hex(8)
            os.write(file, name.encode())
        return name

    def give_back(self) -> None:
        """Let another process have it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
