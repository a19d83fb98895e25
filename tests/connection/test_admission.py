from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from chatproto.connection.admission import HTTP_RESERVE, Admission, RequestHead, origin_allowed
from chatproto.listening import AT_ONCE
from tests.connection.memory import config

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def head(*lines: str) -> RequestHead:
    return RequestHead.parse("\r\n".join(["GET / HTTP/1.1", *lines]).encode())


class RequestHeadTests(SynchronousTestCase):
    def test_websocket_is_recognised(self) -> None:
        """Clients write the word in any case, and may offer other protocols beside it."""
        self.assertTrue(head("UPGRADE: h2c, WebSocket").upgrades)
        self.assertFalse(head("Upgrade: h2c").upgrades)
        self.assertFalse(head("Host: a").upgrades)

    def test_garbage_is_passed_over(self) -> None:
        """A header of nonsense is no reason to fail."""
        self.assertEqual(head("nonsense", "Ok: \xff").fields, {"ok": ["Ã¿"]})


class OriginTests(SynchronousTestCase):
    def test_no_origin(self) -> None:
        """Apps send none and may connect."""
        self.assertTrue(origin_allowed(None, "chat.example", ()))

    def test_own_origin(self) -> None:
        """Our own pages may connect, also behind a proxy that ends TLS."""
        for origin, host in (
            ("http://chat.example", "chat.example"),
            ("https://chat.example", "chat.example"),
            ("https://chat.example", "Chat.Example:443"),
            ("http://chat.example:8420", "chat.example:8420"),
            ("http://[::1]:8420", "[::1]:8420"),
        ):
            self.assertTrue(origin_allowed(origin, host, ()), (origin, host))

    def test_foreign_origin(self) -> None:
        """A page of somebody else may not use the customer's browser against us."""
        for origin, host in (
            ("https://evil.example", "chat.example"),
            ("https://chat.example.evil.example", "chat.example"),
            ("http://chat.example:8080", "chat.example:8420"),
            ("http://chat.example", "chat.example:8420"),
            ("https://chat.example", None),
            ("null", "chat.example"),
            ("file:///home/x.html", "chat.example"),
            ("https://[", "chat.example"),
            ("https://a:b", "a"),
            ("", ""),
        ):
            self.assertFalse(origin_allowed(origin, host, ()), (origin, host))

    def test_listed_origin(self) -> None:
        """The operator lists the shop's pages; scheme and port count there."""
        allowed = ("https://shop.example",)
        self.assertTrue(origin_allowed("https://SHOP.example:443", "chat.example", allowed))
        self.assertFalse(origin_allowed("http://shop.example", "chat.example", allowed))
        self.assertTrue(origin_allowed("null", "chat.example", ("null",)))


class Caller:
    """A connection that remembers whether it had to go."""

    gone = False

    def abort(self) -> None:
        self.gone = True


class AdmissionTests(SynchronousTestCase):
    def enter(self, admission: Admission) -> Caller:
        caller = Caller()
        self.assertTrue(admission.enter(caller))
        return caller

    def test_whole_server(self) -> None:
        """Past the limit there is room for health checks only, then for nothing."""
        admission = Admission(config(max_connections=2))
        callers = []
        for full in (False, False, True, *[True] * (HTTP_RESERVE - 1)):
            callers.append(self.enter(admission))
            self.assertEqual(admission.full, full)
            admission.asks(callers[-1])
        callers.append(Caller())
        self.assertFalse(admission.enter(callers[-1]))
        for caller in callers:
            admission.leave(caller, None)
        self.assertEqual((admission.total, admission.full), (0, False))

    def test_reserve(self) -> None:
        """Of those beyond the limit, who asks for nothing gives way, the oldest first; everybody else stays."""
        admission = Admission(config(max_connections=2))
        regular = [self.enter(admission) for _ in range(2)]
        reserve = [self.enter(admission) for _ in range(HTTP_RESERVE)]
        admission.asks(reserve[0])
        admission.asks(reserve[2])
        admission.waits(reserve[2])
        admission.leave(reserve[3], None)
        more = [self.enter(admission)]
        self.assertFalse(any(caller.gone for caller in reserve))
        more.append(self.enter(admission))
        self.assertEqual([caller.gone for caller in reserve[:5]], [False, True, False, False, False])
        more += [self.enter(admission) for _ in range(HTTP_RESERVE - 3)]
        self.assertEqual([caller.gone for caller in reserve[:5]], [False, True, True, False, True])
        self.assertEqual(sum(caller.gone for caller in reserve), HTTP_RESERVE - 2)
        self.assertFalse(any(caller.gone for caller in (*regular, *more)))
        for caller in more:
            admission.asks(caller)
        self.assertFalse(admission.enter(Caller()))

    def test_accepted_in_a_turn(self) -> None:
        """Who asks at once is heard before those who come next may take the place, however many they are."""
        self.assertLessEqual(2 * AT_ONCE, HTTP_RESERVE)

    def test_highest(self) -> None:
        """How many there were together is told once, whether they are still there or not."""
        admission = Admission(config())
        callers = [self.enter(admission) for _ in range(3)]
        admission.leave(callers[0], None)
        self.assertEqual([admission.highest(), admission.highest()], [3, 2])

    def test_one_address(self) -> None:
        """One address cannot take every place; who leaves makes room."""
        admission = Admission(config(max_connections_per_address=1))
        self.assertTrue(admission.take("192.0.2.1"))
        self.assertFalse(admission.take("192.0.2.1"))
        self.assertTrue(admission.take("192.0.2.2"))
        admission.leave(Caller(), "192.0.2.1")
        self.assertTrue(admission.take("192.0.2.1"))
        admission.leave(Caller(), "192.0.2.1")
        admission.leave(Caller(), "192.0.2.2")
        self.assertEqual(admission.by_address, {})

    def test_ipv6(self) -> None:
        """The addresses of one IPv6 customer count together, and IPv4 inside IPv6 as IPv4."""
        admission = Admission(config(max_connections_per_address=1))
        self.assertTrue(admission.take("2001:db8:0:1::1"))
        self.assertFalse(admission.take("2001:db8:0:1:ffff::2"))
        self.assertTrue(admission.take("2001:db8:0:2::1"))
        self.assertTrue(admission.take("::ffff:192.0.2.1"))
        self.assertFalse(admission.take("192.0.2.1"))

    def test_client_behind_proxies(self) -> None:
        """What a client writes into X-Forwarded-For itself is not believed."""
        admission = Admission(config(trusted_proxies=PROXIES))
        for peer, lines, address in (
            ("192.0.2.1", ["X-Forwarded-For: 198.51.100.9"], "192.0.2.1"),
            ("10.0.0.1", ["X-Forwarded-For: 198.51.100.9"], "198.51.100.9"),
            ("::ffff:10.0.0.1", ["X-Forwarded-For: 198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", ["X-Forwarded-For: 6.6.6.6, 198.51.100.9, 10.0.0.2"], "198.51.100.9"),
            ("10.0.0.1", ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", ["X-Forwarded-For: 198.51.100.9:4711"], "198.51.100.9"),
            ("10.0.0.1", ['X-Forwarded-For: "[2001:db8::1]:80"'], "2001:db8::1"),
            ("10.0.0.1", ["X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", ["X-Forwarded-For: 10.0.0.3, fd00::1"], "10.0.0.3"),
            ("10.0.0.1", ["X-Forwarded-For: 6.6.6.6, 2001:db8::1%\x1b[31m"], "10.0.0.1"),
            ("10.0.0.1", ["X-Forwarded-For: 198.51.100.9%x"], "10.0.0.1"),
            ("fd00::7%eth0", ["X-Forwarded-For: 198.51.100.9"], "198.51.100.9"),
            ("10.0.0.1", [], "10.0.0.1"),
            ("", ["X-Forwarded-For: 198.51.100.9"], "198.51.100.9"),
        ):
            self.assertEqual(admission.client_address(peer, head(*lines)), address, (peer, lines))
