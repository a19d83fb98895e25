"""A daemon that is wrong on purpose: it acknowledges messages before they are committed. The ledger has to notice."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.scripts import twistd

import chatproto.server
from chatproto.errors import StorageError
from chatproto.storage.journal import STORED, D, Journal, Outcome, Thread, Told

LAZY = 0.3
"""Seconds between the acknowledgement and the commit."""


class EarlyJournal(Journal):
    """Answers at once what it is going to store a little later."""

    _promised: dict[Thread, Outcome] = {}

    def put(self, draft: D, told: Told[D]) -> None:
        last = self._promised.get(draft.thread)
        if last is None:
            super().put(draft, partial(self._remember, told))
            return
        guess = replace(last, seq=last.seq + 1, rev=last.rev + 1)
        self._promised[draft.thread] = guess
        deferLater(reactor, LAZY, super().put, draft, lambda draft, result: None).addErrback(lambda failure: None)
        told(draft, guess)

    def _remember(self, told: Told[D], draft: D, result: Outcome | StorageError) -> None:
        if isinstance(result, Outcome) and result.kind == STORED:
            self._promised[draft.thread] = result
        told(draft, result)


if __name__ == "__main__":
    setattr(chatproto.server, "Journal", EarlyJournal)  # noqa: B010
    twistd.run()
