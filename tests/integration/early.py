"""A daemon that is wrong on purpose: it acknowledges messages before they are committed. The ledger has to notice."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.scripts import twistd

import chatproto.server
from chatproto.storage.journal import STORED, Draft, Journal, Outcome, Thread

LAZY = 0.3
"""Seconds between the acknowledgement and the commit."""


class EarlyJournal(Journal):
    """Answers at once what it is going to store a little later."""

    _promised: dict[Thread, Outcome] = {}

    def append(self, draft: Draft, then: Callable[[Outcome], Any] = lambda outcome: outcome) -> Deferred[Any]:
        last = self._promised.get(draft.thread)
        if last is None:
            return super().append(draft, partial(self._remember, draft.thread, then))
        guess = last._replace(seq=last.seq + 1, rev=last.rev + 1)
        self._promised[draft.thread] = guess
        deferLater(reactor, LAZY, super().append, draft).addErrback(lambda failure: None)
        return succeed(then(guess))

    def _remember(self, thread: Thread, then: Callable[[Outcome], Any], outcome: Outcome) -> Any:
        if outcome.kind == STORED:
            self._promised[thread] = outcome
        return then(outcome)


if __name__ == "__main__":
    setattr(chatproto.server, "Journal", EarlyJournal)  # noqa: B010
    twistd.run()
