from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.protocol import ChatFactory, ChatProtocol
from tests.conformance.echo import EchoFactory, EchoProtocol, EchoReception
from tests.connection.memory import Recorder, config


class OptionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Clock()
        self.production = ChatFactory(config(), Recorder(clock), clock)
        self.echo = EchoFactory(config(), EchoReception(clock), clock)

    def test_same_options(self) -> None:
        """What a suite finds out about the echo server is true of the daemon."""
        for name in ChatProtocol.CONFIG_ATTRS:
            ours, theirs = getattr(self.production, name), getattr(self.echo, name)
            if name == "perMessageCompressionAccept":
                ours, theirs = ours([]), theirs([])
            self.assertEqual(ours, theirs, name)

    def test_same_class(self) -> None:
        """The echo server overrides who gets a message, and nothing else."""
        for theirs, names in ((EchoProtocol, {"onMessage"}), (EchoFactory, {"protocol"})):
            self.assertEqual({name for name in vars(theirs) if not name.startswith("__")}, names)

    def test_no_compression(self) -> None:
        """permessage-deflate costs more than 100 KiB a connection: an offer is not taken."""
        protocol = self.production.buildProtocol(None)
        self.assertIsNone(protocol.perMessageCompressionAccept(["any"]))

    def test_traps(self) -> None:
        """Autobahn's own defaults would drop connections without a close code, serve a page and take any size."""
        protocol = self.production.buildProtocol(None)
        self.assertFalse(protocol.failByDrop)
        self.assertFalse(protocol.webStatus)
        self.assertFalse(protocol.allowNullOrigin)
        self.assertEqual((protocol.maxFramePayloadSize, protocol.maxMessagePayloadSize), (65536, 65536))
        self.assertEqual((protocol.openHandshakeTimeout, protocol.closeHandshakeTimeout), (0, 0))
        self.assertEqual((protocol.autoPingInterval, protocol.autoPingTimeout), (0, 0))
