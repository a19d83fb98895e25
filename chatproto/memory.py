"""Memory that a crowd needed, given back to the system when the crowd has gone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

MANY = 1000
"""Connections fewer than there were, after which it is worth the moment (a tenth of a second for 250 MB)."""


def trim() -> None:
    """glibc keeps what was freed below something that is still in use; other C libraries have no such call."""
    ask = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if ask is not None:
        ask(0)


class Tide:
    """Notices when a crowd has gone.

    :param highest: the most connections there were since it was asked last.
    :param connections: how many there are.
    :param ebbs: called then.
    """

    def __init__(self, highest: Callable[[], int], connections: Callable[[], int], ebbs: Callable[[], None]) -> None:
        self._highest = highest
        self._connections = connections
        self._ebbs = ebbs
        self._level = 0

    async def look(self) -> None:
        self._level = max(self._level, self._highest())
        now = self._connections()
        if self._level - now >= MANY:
            self._level = now
            self._ebbs()
