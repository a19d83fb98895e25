from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import Any

from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ClientEndpoint,
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chatproto.connection.admission import HTTP_RESERVE
from chatproto.connection.protocol import FRAMES_A_TURN, ChatFactory
from chatproto.connection.state import ConnectionState, Link
from chatproto.web.site import make_site
from tests.connection.memory import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Client,
    ConnectedCase,
    Recorder,
    client_frame,
    close_frame,
    config,
    request,
    server_frames,
    turn,
)

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: chat.example\r\n\r\n"


class HandshakeTests(ConnectedCase):
    def test_accepted(self) -> None:
        """A client is let in, without a word about the software we use, and Nagle's delay is off."""
        client = self.connect().shake_hands()
        head = client.received()
        self.assertIn(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", head)
        self.assertIn(b"Server: chatproto\r\n", head)
        self.assertNotIn(b"utobahn", head)
        self.assertTrue(client.transport.no_delay)
        self.assertEqual(self.state().address, "192.0.2.1")
        client.lose()
        self.assertNothingLeft()

    def test_frames_behind_the_header(self) -> None:
        """What a client sends without waiting for our answer is not lost."""
        client = self.connect()
        client.send(request() + client_frame(TEXT, b"at once") + client_frame(TEXT, b"cut")[:4])
        client.send(client_frame(TEXT, b"cut")[4:])
        self.assertEqual(self.recorder.heard, [("text", b"at once"), ("text", b"cut")])

    def test_compression_is_refused(self) -> None:
        """A browser offers permessage-deflate always; it is let in without."""
        client = self.connect().shake_hands(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
        head = client.received()
        self.assertIn(b"101 ", head)
        self.assertNotIn(b"Extensions", head)

    def test_bad_handshakes(self) -> None:
        """Who asks wrongly gets an HTTP answer and the connection ends."""
        for status, fields in (
            (400, {"Sec_WebSocket_Key": None}),
            (400, {"Sec_WebSocket_Key": "short"}),
            (400, {"Sec_WebSocket_Version": "12"}),
            (400, {"Sec_WebSocket_Version": "8"}),
            (400, {"Connection": "close"}),
            (400, {"Host": None}),
        ):
            client = self.connect().shake_hands(**fields)
            self.assertEqual(client.status(), status, fields)
            self.assertTrue(client.transport.disconnecting)
            client.send(b"more" * 100)
            client.lose()
        self.assertNothingLeft()
        self.assertEqual(self.recorder.heard, [])

    def test_origin(self) -> None:
        """403 for pages of others; our own and the listed ones are let in."""
        self.start(origins=("https://shop.example",))
        for origin, status in (
            ("https://chat.example", 101),
            ("https://shop.example", 101),
            (None, 101),
            ("https://evil.example", 403),
            ("null", 403),
            ("nonsense", 403),
        ):
            client = self.connect().shake_hands(Origin=origin)
            self.assertEqual(client.status(), status, origin)

    def test_endless_header(self) -> None:
        """Past 16 KiB of header the connection is dropped; nothing of it is kept."""
        client = self.connect()
        for _ in range(16):
            client.send(b"X-Filler: " + b"*" * 1012 + b"\r\n")
        self.assertFalse(client.transport.disconnected)
        client.send(b"X-Filler: " + b"*" * 1012 + b"\r\n")
        self.assertTrue(client.transport.disconnected)
        client.send(b"*" * 100_000)
        self.assertLess(len(client.protocol.data), 20_000)

    def test_long_header_at_once(self) -> None:
        """The bound holds also for a header that ends in the packet that brings it past the bound."""
        client = self.connect().shake_hands(X_Filler="*" * 20_000)
        self.assertTrue(client.transport.disconnected)
        self.assertEqual(client.received(), b"")

    def test_reception_fails(self) -> None:
        """An error of ours at the opening is told by 1011, and logged."""

        class Broken(Recorder):
            def opened(self, link: Link, address: str) -> ConnectionState:
                raise ZeroDivisionError

        self.start(Broken(self.clock))
        client = self.connect().shake_hands()
        _, _, frames = client.received().partition(b"\r\n\r\n")
        self.assertEqual(server_frames(frames)[0][1][:2], b"\x03\xf3")
        client.send(close_frame(1011))
        self.assertTrue(client.transport.disconnecting)
        client.lose()
        self.assertNothingLeft()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class LimitTests(ConnectedCase):
    def test_full(self) -> None:
        """A full server answers 503, and has room again when somebody leaves."""
        self.start(max_connections=2)
        first, second = self.open(), self.open()
        third = self.connect().shake_hands()
        self.assertEqual(third.status(), 503)
        third.lose()
        first.lose()
        fourth = self.open()
        for client in (second, fourth):
            client.lose()
        self.assertNothingLeft()

    def test_full_is_healthy(self) -> None:
        """A full server still answers health checks, or else it would be restarted with everybody on it."""
        self.start(max_connections=1)
        self.open()
        probe = self.connect()
        probe.send(HEALTH)
        self.assertEqual(probe.status(), 200)

    def test_healthy_under_a_flood(self) -> None:
        """Connections that say nothing, or not all, or nothing more, take no place from a health check for long."""
        self.start(max_connections=1)
        guest = self.open()
        for before in (b"", b"GET / HTTP/1.1\r\n", HEALTH):
            crowd = [self.connect() for _ in range(HTTP_RESERVE)]
            for client in crowd:
                client.send(before)
            probe = self.connect()
            probe.send(HEALTH)
            self.assertEqual(probe.status(), 200)
            gone = [client.transport.disconnected for client in crowd]
            self.assertEqual(gone, [True] + [False] * (HTTP_RESERVE - 1))
            for client in (*crowd, probe):
                client.lose()
        guest.send(client_frame(TEXT, b"{}"))
        self.assertEqual(self.recorder.heard, [("text", b"{}")])
        guest.lose()
        self.assertNothingLeft()

    def test_overrun(self) -> None:
        """Beyond that, while as many requests are under way, connections are refused before theirs is read."""
        self.start(max_connections=1)
        clients = [self.connect() for _ in range(1 + HTTP_RESERVE)]
        for client in clients:
            client.send(b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        refused = self.connect()
        self.assertEqual(refused.status(), 503)
        self.assertTrue(refused.transport.disconnecting)
        for client in (*clients, refused):
            client.lose()
        self.assertNothingLeft()

    def test_one_address(self) -> None:
        """One address gets its share (429 past it), HTTP included; others are let in."""
        self.start(max_connections_per_address=2)
        clients = [self.open(), self.connect()]
        clients[1].send(HEALTH)
        self.assertEqual(clients[1].status(), 200)
        refused = self.connect()
        self.assertEqual(refused.status(), 429)
        other = self.open(peer="192.0.2.2")
        for client in (*clients, refused, other):
            client.lose()
        self.assertNothingLeft()

    def test_behind_a_proxy(self) -> None:
        """Behind a trusted proxy each customer has a share of its own, and is known by its own address."""
        self.start(max_connections_per_address=1, trusted_proxies=(ip_network("10.0.0.1"),))
        clients = []
        for address, status in (("198.51.100.1", 101), ("198.51.100.2", 101), ("198.51.100.1", 429)):
            client = self.connect(peer="10.0.0.1").shake_hands(X_Forwarded_For=f"6.6.6.6, {address}")
            self.assertEqual(client.status(), status)
            clients.append(client)
        self.assertEqual([state.address for state in self.recorder.connections], ["198.51.100.1", "198.51.100.2"])
        for client in clients:
            client.lose()
        self.assertNothingLeft()

    def test_forged_address(self) -> None:
        """Without a trusted proxy the field means nothing."""
        client = self.connect().shake_hands(X_Forwarded_For="198.51.100.1")
        self.assertEqual(client.status(), 101)
        self.assertEqual(self.state().address, "192.0.2.1")


class SendTests(ConnectedCase):
    def test_one_write(self) -> None:
        """All that one turn has for a connection leaves in one write, in its order, pongs too."""
        client = self.open()
        link = self.state().link
        link.send(b"reply")
        link.send(b"push", push=True)
        client.protocol.dataReceived(client_frame(PING, b"p"))
        link.send("€".encode() * 50_000)
        self.assertEqual(client.transport.writes, [])
        self.clock.advance(0)
        self.assertEqual(len(client.transport.writes), 1)
        self.assertEqual(
            client.frames(), [(TEXT, b"reply"), (TEXT, b"push"), (10, b"p"), (TEXT, "€".encode() * 50_000)]
        )

    def test_larger_than_what_clients_may_send(self) -> None:
        """The limit of incoming frames is none for what we send."""
        client = self.open()
        self.state().link.send(b"*" * 300_000)
        self.assertEqual(client.frames(), [(TEXT, b"*" * 300_000)])

    def test_peer_does_not_read(self) -> None:
        """Past 256 KiB unsent nothing more is read from who does not read, until it has taken everything."""
        client = self.open(reads=False)
        link = self.state().link
        for _ in range(3):
            link.send(b"*" * 100_000)
            self.clock.advance(0)
        self.assertEqual(client.transport.producerState, "producing")
        link.send(b"*" * 100_000)
        self.assertEqual(client.transport.producerState, "paused")
        self.assertGreater(link.unsent, 262144)
        self.assertEqual(len(client.received()), 100_010)
        for _ in range(3):
            client.transport.drain()
            self.assertEqual(client.transport.producerState, "paused")
            self.assertTrue(link.congested)
            self.assertEqual(self.recorder.drains, 0)
            self.assertEqual(len(client.received()), 100_010)
        client.transport.drain()
        self.assertEqual(client.transport.producerState, "producing")
        self.assertEqual((link.unsent, link.congested, self.recorder.drains), (0, False, 1))

    def test_sizes(self) -> None:
        """Each frame says how long it is, around every size from which on it says so in another way."""
        client = self.open()
        for size in (0, 1, 125, 126, 1023, 1024, 65535, 65536):
            self.state().link.send(b"*" * size)
            self.assertEqual(server_frames(client.received()), [(TEXT, b"*" * size)])

    def test_pauses_at_the_edge(self) -> None:
        """So many bytes may wait as are allowed, and not one more."""
        self.start(pause_unsent=1000)
        self.open(reads=False)
        link = self.state().link
        link.send(b"*" * 996)
        self.assertEqual((link.unsent, link.congested), (1000, False))
        link.send(b"")
        self.assertEqual((link.unsent, link.congested), (1002, True))

    def test_two_reasons_to_pause(self) -> None:
        """Reading goes on when neither the dispatch nor what is unsent holds it."""
        client = self.open(reads=False)
        link = self.state().link
        link.pause()
        for _ in range(4):
            link.send(b"*" * 100_000)
            self.clock.advance(0)
        link.resume()
        self.assertEqual(client.transport.producerState, "paused")
        link.pause()
        client.transport.drain_all()
        self.assertEqual(client.transport.producerState, "paused")
        link.resume()
        self.assertEqual(client.transport.producerState, "producing")

    def fall_behind(self, most: int) -> Link:
        """A client that has taken nothing but what fills a transport, and for which *most* bytes wait at least."""
        link = self.state().link
        while link.unsent <= most:
            link.send(b"*" * 100_000, push=True)
            self.clock.advance(0)
        return link

    def assertTooSlow(self, client: Client) -> None:
        client.transport.drain()
        (first, second) = client.frames()
        self.assertEqual(first, (TEXT, b"*" * 100_000))
        self.assertEqual(second, (CLOSE, b"\x0f\xa2too slow a reader"))
        client.lose()
        self.assertEqual(self.recorder.heard, [("closed", 4002, "too slow a reader")])

    def test_too_slow(self) -> None:
        """Who is 1 MiB behind with news and takes nothing is told 4002 in place of them; what is half sent is whole."""
        client = self.open(reads=False)
        link = self.fall_behind(1_000_000)
        self.assertEqual(link.unsent, 10 * 100_010)
        self.clock.advance(60)
        link.send(b"*" * (1_048_576 - 10 * 100_010), push=True)
        self.assertLess(link.unsent, 1_048_600)
        self.assertGreater(link.unsent, 1_000_100)
        link.send(b"one more", push=True)
        self.assertLess(link.unsent, 200_000)
        link.send(b"never", push=True)
        self.assertTooSlow(client)

    def test_patience(self) -> None:
        """All the news of one moment are no reason: a peer has 2 s to take something of them."""
        client = self.open(reads=False)
        link = self.fall_behind(2_000_000)
        self.clock.advance(1.9)
        link.send(b"*" * 100_000, push=True)
        self.assertGreater(link.unsent, 2_000_000)
        self.clock.advance(0.1)
        link.send(b"*" * 100_000, push=True)
        self.assertTooSlow(client)

    def test_takes_something(self) -> None:
        """Who takes a little of it in time is slow, but not too slow; nothing is lost."""
        client = self.open(reads=False)
        link = self.fall_behind(2_000_000)
        sent = 20
        for _ in range(20):
            self.clock.advance(1.9)
            client.transport.drain()
            link.send(b"*" * 100_000, push=True)
            sent += 1
        client.transport.drain_all()
        self.assertEqual(len(client.frames()), sent)
        link.send(b"at ease again", push=True)
        self.clock.advance(60)
        link.send(b"and for ever", push=True)
        self.assertEqual([payload for _, payload in client.frames()], [b"at ease again", b"and for ever"])

    def test_far_too_much(self) -> None:
        """16 times the limit at once is too much for anybody."""
        self.start(max_unsent=1_000_000)
        client = self.open(reads=False)
        link = self.fall_behind(15_900_000)
        link.send(b"*" * (16_000_000 - link.unsent), push=True)
        self.assertGreater(link.unsent, 15_900_000)
        link.send(b"", push=True)
        self.assertTooSlow(client)

    def test_quick_reader(self) -> None:
        """A guest who writes a lot at once does not throw out an admin who reads."""
        client = self.open(reads=True)
        link = self.state().link
        for _ in range(200):
            link.send(b"*" * 16_000, push=True)
        self.assertEqual(len(client.frames()), 200)
        self.assertFalse(client.protocol.behind)

    def test_replies_never_close(self) -> None:
        """Replies may pass the limit: they were asked for, and reading has stopped long before."""
        client = self.open(reads=False)
        link = self.state().link
        for _ in range(15):
            link.send(b"*" * 100_000)
            self.clock.advance(1)
        client.transport.drain_all()
        self.assertEqual(len(client.frames()), 15)

    def test_ping_flood(self) -> None:
        """Pongs that are not taken count as unsent, too."""
        client = self.open(reads=False)
        for _ in range(30):
            client.send(client_frame(PING, b"*" * 125) * 100)
        self.assertEqual(client.transport.producerState, "paused")


class RestTests(ConnectedCase):
    """What a client sends at once is not done at once."""

    def texts(self) -> list[bytes]:
        return [what[1] for what in self.recorder.heard if what[0] == "text"]

    def test_turns(self) -> None:
        """A read full of frames is handled 64 at a time; others have their turn between, and nothing is read."""
        client, other = self.open(), self.open()
        sent = [b"%d" % n for n in range(150)]
        client.protocol.dataReceived(b"".join(client_frame(TEXT, text) for text in sent))
        self.assertEqual(len(self.texts()), FRAMES_A_TURN)
        self.assertEqual(client.transport.producerState, "paused")
        other.protocol.dataReceived(client_frame(TEXT, b"other"))
        self.assertEqual(len(self.texts()), FRAMES_A_TURN + 1)
        client.protocol.dataReceived(client_frame(TEXT, b"behind"))
        turn(self.clock)
        self.assertEqual(len(self.texts()), 2 * FRAMES_A_TURN + 1)
        turn(self.clock)
        self.assertEqual(client.transport.producerState, "producing")
        self.assertEqual([text for text in self.texts() if text != b"other"], [*sent, b"behind"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_exactly_a_turn(self) -> None:
        """Nobody rests for nothing."""
        client = self.open()
        client.protocol.dataReceived(client_frame(TEXT, b"x") * FRAMES_A_TURN)
        self.assertEqual(client.transport.producerState, "producing")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_turns_of_any_frames(self) -> None:
        """So it is with pings, pongs, empty fragments and binaries, and with texts among them; the order stays."""
        kinds = (
            (PING, b"p", True),
            (PONG, b"", True),
            (TEXT, b"a", True),
            (TEXT, b"b", False),
            (CONTINUATION, b"", False),
            (CONTINUATION, b"c", True),
            (BINARY, b"", True),
        )
        client = self.open()
        client.protocol.dataReceived(b"".join(client_frame(*kind) for kind in kinds) * 100)
        turns = 1
        while self.clock.getDelayedCalls():
            turn(self.clock)
            turns += 1
        self.assertGreaterEqual(turns, 700 // FRAMES_A_TURN)
        self.assertEqual(self.recorder.heard, [("text", b"a"), ("text", b"bc"), ("binary",)] * 100)
        # A ping, a pong and two fragments; the last one is counted with the message.
        self.assertEqual(self.recorder.frames, 400)
        self.assertEqual([opcode for opcode, _ in client.frames()], [PONG] * 100)

    def test_rest(self) -> None:
        """While a connection rests nothing of it is taken, be it read already or not; then it goes on by itself."""
        for way in (
            client_frame(TEXT, b"x") * 3,
            client_frame(TEXT, b"x" * 3000) * 3,
            client_frame(PING) * 3,
            client_frame(TEXT, b"x", fin=False) + client_frame(CONTINUATION, fin=False) * 2,
        ):
            self.start()
            client = self.open()
            self.recorder.at_once = lambda link: link.rest(2.0)
            client.protocol.dataReceived(way)
            for count in (1, 2, 3):
                self.assertEqual(len(self.recorder.heard) + self.recorder.frames, count)
                self.assertEqual(client.transport.producerState, "paused")
                self.clock.advance(1.9)
                self.assertEqual(len(self.clock.getDelayedCalls()), 1)
                self.assertEqual(len(self.recorder.heard) + self.recorder.frames, count)
                self.clock.advance(0.1)
            self.assertEqual(client.transport.producerState, "producing")

    def test_last_fragment_is_empty(self) -> None:
        """A message whose last, empty fragment was one too many is complete all the same."""
        client = self.open()
        self.recorder.at_once = lambda link: link.rest(2.0)
        client.send(client_frame(TEXT, b"x", fin=False) + client_frame(CONTINUATION, fin=False))
        client.send(client_frame(CONTINUATION))
        self.clock.pump([2.0] * 4)
        self.assertEqual(self.recorder.heard, [("text", b"x")])

    def test_rest_and_pause(self) -> None:
        """Reading goes on when neither the rest nor another reason holds it; a pause does not hold what was read."""
        client = self.open()
        link = self.state().link
        link.pause()
        link.rest(2.0)
        link.rest(9.0)
        client.protocol.dataReceived(client_frame(TEXT, b"x"))
        self.clock.advance(2)
        self.assertEqual(self.texts(), [b"x"])
        self.assertEqual(client.transport.producerState, "paused")
        link.resume()
        self.assertEqual(client.transport.producerState, "producing")

    def test_close_while_resting(self) -> None:
        """A close frame is answered behind what the peer sent before, and its end ends the rest."""
        client = self.open()
        self.recorder.at_once = lambda link: link.rest(2.0)
        client.send(client_frame(TEXT, b"x") * 2 + close_frame(1000))
        self.clock.advance(2)
        self.assertFalse(client.transport.disconnecting)
        self.clock.advance(2)
        self.assertEqual(client.frames(), [(CLOSE, b"\x03\xe8")])
        self.assertTrue(client.transport.disconnecting)
        client.lose()
        self.assertNothingLeft()

    def test_closed_while_resting(self) -> None:
        """Who is closed while resting sees it at once, and the answer is seen after the rest."""
        client = self.open()
        link = self.state().link
        self.recorder.at_once = lambda link: link.rest(2.0)
        client.send(client_frame(TEXT, b"x") * 2 + close_frame(4001))
        link.close(4001, "banned")
        self.assertEqual(client.frames(), [(CLOSE, b"\x0f\xa1banned")])
        self.clock.advance(2)
        self.assertTrue(client.transport.disconnecting)
        self.assertEqual(self.texts(), [b"x"])

    def test_flood_behind_a_close(self) -> None:
        """Who floods while being closed does not hold up others either."""
        client = self.open()
        self.state().link.close(4001, "banned")
        client.protocol.dataReceived(client_frame(PING) * 1000)
        self.assertEqual(client.transport.producerState, "paused")
        for _ in range(1000 // FRAMES_A_TURN):
            self.assertEqual(client.transport.producerState, "paused")
            turn(self.clock)
        self.assertEqual(client.transport.producerState, "producing")

    def test_lost_while_resting(self) -> None:
        """Whoever leaves meanwhile leaves nothing behind."""
        for end in ("lose", "abort"):
            self.start()
            client = self.open()
            self.state().link.rest(2.0)
            client.protocol.dataReceived(client_frame(TEXT, b"x"))
            if end == "abort":
                self.state().link.abort()
            client.lose()
            self.clock.advance(2)
            self.assertEqual(self.texts(), [])
            self.assertNothingLeft()


class ReceiveTests(ConnectedCase):
    def test_messages(self) -> None:
        """Text and binary are told apart; a binary message does not end the connection."""
        client = self.open()
        client.send(client_frame(TEXT, b"{}") + client_frame(BINARY, b"\x00") + client_frame(TEXT, b"[]"))
        self.assertEqual(self.recorder.heard, [("text", b"{}"), ("binary",), ("text", b"[]")])
        self.assertEqual(client.frames(), [])

    def test_error_of_ours(self) -> None:
        """An error that nobody caught is logged, and the client is told 1011 instead of losing the connection."""

        class Broken(Recorder):
            def text(self, connection: ConnectionState, payload: bytes) -> None:
                raise ZeroDivisionError

            def binary(self, connection: ConnectionState) -> None:
                raise ZeroDivisionError

        for opcode in (TEXT, BINARY):
            self.start(Broken(self.clock))
            client = self.open()
            client.send(client_frame(opcode, b"x") * 2)
            self.assertEqual(client.frames(), [(CLOSE, b"\x03\xf3internal error")])
            self.assertFalse(client.transport.disconnecting)
            client.send(close_frame(1011))
            client.lose()
            self.assertEqual(self.recorder.heard, [("closed", 1011, "internal error")])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_error_at_the_end(self) -> None:
        """An error while a connection is given up leaves nothing behind."""

        class Broken(Recorder):
            def closed(self, connection: ConnectionState, code: int | None, reason: str) -> None:
                raise ZeroDivisionError

        self.start(Broken(self.clock))
        self.open().lose()
        self.assertNothingLeft()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_idle_connection_is_small(self) -> None:
        """What only the handshake needed is given back: ten thousand idle customers fit into a small machine."""
        client = self.open()
        client.send(client_frame(TEXT, b"{}"))
        self.clock.advance(0)
        self.assertLess(len(vars(client.protocol)), 30)
        for name in ("http_headers", "http_request_data", "utf8validator", "is_closed", "send_queue", "trafficStats"):
            self.assertNotIn(name, vars(client.protocol))


class CloseTests(ConnectedCase):
    def test_close(self) -> None:
        """What is queued comes before the close frame, nothing after it; the answer ends the connection."""
        client = self.open()
        link = self.state().link
        link.send(b"last")
        link.close(1001, "shutting down")
        link.send(b"never")
        link.close(4000, "again")
        self.assertEqual(client.frames(), [(TEXT, b"last"), (CLOSE, b"\x03\xe9shutting down")])
        client.send(client_frame(TEXT, b"late"))
        self.assertFalse(client.transport.disconnecting)
        client.send(close_frame(1001))
        self.assertTrue(client.transport.disconnecting)
        self.assertFalse(client.transport.disconnected)
        client.lose()
        self.assertEqual(self.recorder.heard, [("closed", 1001, "shutting down")])
        self.assertNothingLeft()

    def test_long_reason(self) -> None:
        """A reason is cut to what a close frame holds, between characters."""
        client = self.open()
        self.state().link.close(4001, "€" * 100)
        self.assertEqual(client.frames(), [(CLOSE, b"\x0f\xa1" + "€".encode() * 41)])

    def test_close_while_paused(self) -> None:
        """Also a connection that was not read from sees the answer to its close frame."""
        client = self.open()
        link = self.state().link
        link.pause()
        link.close(4001, "banned")
        self.assertEqual(client.transport.producerState, "producing")
        link.resume()
        link.pause()
        client.send(close_frame(4001))
        self.assertTrue(client.transport.disconnecting)

    def test_peer_closes(self) -> None:
        """The reception learns the code of who closed first, but no words of a peer, which may be anything."""
        client = self.open()
        client.send(close_frame(4321, b"bye"))
        client.lose()
        self.assertEqual(self.recorder.heard, [("closed", 4321, "by the peer")])

    def test_no_words_of_peers_in_the_log(self) -> None:
        """What peers do wrong, or say at the end, fills nobody's log."""
        logged: list[LogEvent] = []
        observer: Any = logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for wrong in (b"\x83\x80abcd", b"\x81\x02hi", close_frame(1005), close_frame(4321, b"bye"), b"\xff" * 20):
            client = self.open()
            client.send(wrong)
            client.lose()
        self.assertEqual([event for event in logged if event["log_level"] is not LogLevel.debug], [])
        self.assertEqual([event for event in logged if "bye" in (formatEvent(event) or "")], [])

    def test_peer_vanishes(self) -> None:
        """Without a close frame there is no code; what is asked of the link afterwards does nothing."""
        client = self.open()
        link = self.state().link
        client.lose()
        ((_, code, _),) = self.recorder.heard
        self.assertIsNone(code)
        link.send(b"late")
        link.pause()
        link.resume()
        link.close(1000, "")
        self.clock.advance(0)
        self.assertEqual(client.frames(), [])
        self.assertNothingLeft()

    def test_abort(self) -> None:
        """A connection can be dropped without a word; its end is told once."""
        client = self.open()
        link = self.state().link
        link.send(b"never mind")
        link.abort()
        link.send(b"never")
        self.assertTrue(client.transport.disconnected)
        client.send(client_frame(TEXT, b"late"))
        client.lose()
        self.assertEqual([what[0] for what in self.recorder.heard], ["closed"])

    def test_no_cycle(self) -> None:
        """A closed connection is freed at once, without the garbage collector's pauses."""
        client = self.open()
        client.send(client_frame(TEXT, b"{}"))
        freed = weakref.ref(client.protocol)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        client.lose()
        self.recorder.connections.clear()
        client.transport.producer = None
        del client
        self.assertIsNone(freed())

    def test_close_all(self) -> None:
        """At the stop everybody hears 1001; those who answer are waited for, the others dropped after 5 s."""
        polite, rude, unborn, http = self.open(), self.open(), self.connect(), self.connect()
        http.send(HEALTH)
        gone = self.factory.close_all(1001, "shutting down")
        self.assertEqual(polite.frames(), [(CLOSE, b"\x03\xe9shutting down")])
        self.assertTrue(unborn.transport.disconnected)
        self.assertTrue(http.transport.disconnecting)
        for client in (unborn, http):
            client.lose()
        polite.send(close_frame(1001))
        polite.lose()
        self.assertNoResult(gone)
        self.clock.advance(5)
        self.assertTrue(rude.transport.disconnected)
        rude.lose()
        self.successResultOf(gone)
        self.assertNothingLeft()
        self.successResultOf(self.factory.close_all(1001, ""))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class _Talk(Protocol):
    """A client that waits for bytes."""

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.lost: Deferred[None] = Deferred()
        self._wanted: tuple[Callable[[bytes], bool], Deferred[bytes]] | None = None

    def until(self, enough: Callable[[bytes], bool]) -> Deferred[bytes]:
        came: Deferred[bytes] = Deferred()
        self._wanted = (enough, came)
        self.dataReceived(b"")
        return came

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self._wanted is not None and self._wanted[0](self.got):
            (_, came), self._wanted = self._wanted, None
            taken, self.got = self.got, b""
            came.callback(taken)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class SocketTests(TestCase):
    """The same over real sockets, plain and TLS."""

    timeout = 30

    def setUp(self) -> None:
        clock: Any = reactor
        self.recorder = Recorder(clock)
        self.factory = ChatFactory(config(), self.recorder, clock, make_site(lambda: True, clock))

    async def converse(self, listen: Callable[[int], Any], connect: Callable[[int], Any]) -> None:
        port = await listen(0).listen(self.factory)
        try:
            await self._talk_websocket(lambda: connectProtocol(connect(port.getHost().port), _Talk()))
            await self._talk_http(lambda: connectProtocol(connect(port.getHost().port), _Talk()))
            await self.factory.close_all(1001, "")
        finally:
            await port.stopListening()
        self.assertEqual((self.factory.admission.total, self.factory.admission.by_address), (0, {}))

    async def _talk_websocket(self, connect: Callable[[], Awaitable[_Talk]]) -> None:
        client = await connect()
        client.transport.write(request())
        await client.until(lambda got: got.endswith(b"\r\n\r\n"))
        for size in (5, 60_000):
            client.transport.write(client_frame(TEXT, b"*" * size))
        big = b"*" * 2_000_000
        self.recorder.connections[-1].link.send(big)
        answer = await client.until(lambda got: len(got) >= len(big) + 10)
        self.assertEqual(server_frames(answer), [(TEXT, big)])
        client.transport.write(close_frame(1000, b"bye"))
        await client.lost
        self.assertEqual(server_frames(client.got), [(CLOSE, b"\x03\xe8")])
        self.assertEqual([what[0] for what in self.recorder.heard[:2]], ["text", "text"])

    async def _talk_http(self, connect: Callable[[], Awaitable[_Talk]]) -> None:
        client = await connect()
        for _ in range(2):
            client.transport.write(HEALTH)
            self.assertIn(b"HTTP/1.1 200", await client.until(lambda got: got.endswith(b"\r\n\r\nok\n")))
        client.transport.write(HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await client.lost
        self.assertTrue(client.got.endswith(b"\r\n\r\nok\n"))

    async def test_tcp(self) -> None:
        await self.converse(
            lambda port: TCP4ServerEndpoint(reactor, port, interface="127.0.0.1"),
            lambda port: TCP4ClientEndpoint(reactor, "127.0.0.1", port),
        )

    async def test_tls(self) -> None:
        """Over TLS the transport is another one, and must be handed over all the same."""
        key = ssl.KeyPair.generate(size=2048)
        certificate = ssl.PrivateCertificate.fromCertificateAndKeyPair(key.selfSignedCert(1, CN="localhost"), key)
        await self.converse(
            lambda port: SSL4ServerEndpoint(reactor, port, certificate.options(), interface="127.0.0.1"),
            lambda port: SSL4ClientEndpoint(reactor, "127.0.0.1", port, ssl.CertificateOptions()),
        )
