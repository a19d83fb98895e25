"""Memory that is given back when a crowd has gone."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatproto.memory import MANY, Tide, trim


class TideTests(SynchronousTestCase):
    def test_ebb(self) -> None:
        """Once after each crowd, however short it was there; a few who come and go are no crowd."""
        most = there = 0
        ebbs: list[int] = []
        tide = Tide(lambda: most, lambda: there, lambda: ebbs.append(there))
        told = []
        for step in ((MANY, MANY), (MANY, 10), (10, 10), (MANY + 9, 10), (MANY + 10, 10), (20, 5), (5, 5)):
            most, there = step
            self.successResultOf(Deferred.fromCoroutine(tide.look()))
            told.append(len(ebbs))
        self.assertEqual(told, [0, 0, 0, 0, 1, 1, 1])

    def test_slow_ebb(self) -> None:
        """A crowd that goes little by little is noticed, too."""
        ebbs: list[int] = []
        there = 5 * MANY
        tide = Tide(lambda: there, lambda: there, lambda: ebbs.append(there))
        while there > 0:
            self.successResultOf(Deferred.fromCoroutine(tide.look()))
            there -= MANY // 2
        self.assertEqual(ebbs, [4 * MANY, 3 * MANY, 2 * MANY, MANY])

    def test_trim(self) -> None:
        """The call is harmless at any time."""
        trim()
