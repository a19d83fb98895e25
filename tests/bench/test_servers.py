"""The servers that the benchmark starts."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from bench.servers import free_port


class PortTests(SynchronousTestCase):
    def test_claimed(self) -> None:
        """Two runs at a time never get the same port, though nobody listens yet; what is given back is free again."""
        first, claim = free_port()
        second, other = free_port()
        self.addCleanup(other.close)
        self.assertNotEqual(first, second)
        claim.close()
        again, third = free_port()
        self.addCleanup(third.close)
        self.assertEqual(again, first)

    def test_taken(self) -> None:
        """A port on which somebody else listens is left alone, and the server itself can listen on what it got."""
        port, claim = free_port()
        claim.close()
        with socket.create_server(("127.0.0.1", port)):
            another, claim = free_port()
            self.addCleanup(claim.close)
            self.assertNotEqual(another, port)
