"""Endpoint strings, with certificates that can be read again while the daemon runs; how connections are accepted."""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.interfaces import IOpenSSLContextFactory, IStreamServerEndpoint
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.clock import Clock, Timer
from chatproto.errors import StartError

OTHER_FILES = 200
"""Files that may be open besides the connections that are served: to the database, logs, health checks."""

SPARE = 128
"""Of these, so many are left free whatever connects: a database that comes back needs some."""

AT_ONCE = 32
"""Connections accepted in one turn at most, so that others get their turn."""

LOOK_AGAIN = 0.5
"""Seconds from one look for room to the next, while there is none."""

TELL_EVERY = 60.0
"""Seconds between two lines that say that there is none."""

BACKLOG = 4096
"""Connections that wait in the kernel: past them newcomers try again after seconds. It lowers this to its own limit."""

_WITH_BACKLOG = ("tcp", "tcp6", "unix")


def file_limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def room_for(connections: int) -> int:
    """How many of so many connections there are files for; at least one."""
    return max(1, min(connections, file_limit() - OTHER_FILES))


class Acceptor:
    """Accepts no connections while there is no file for them.

    Twisted would: it closes each at once, with a line in the log, and when that fails too it tries again without a
    pause. Here they wait in the kernel, everybody else goes on, and what else needs a file has some.

    :param connections: how many there are, on all ports.
    """

    _log = Logger()

    def __init__(self, clock: Clock, connections: Callable[[], int]) -> None:
        self._clock = clock
        self._connections = connections
        self._shut: list[Any] = []
        self._timer: Timer | None = None
        self._told_at = float("-inf")

    def watch(self, port: Any) -> None:
        """:param port: as an endpoint's ``listen`` gives it, a :class:`twisted.internet.tcp.Port`."""
        accept = port.doRead

        def accept_or_wait() -> Any:
            if not self._has_room():
                return self._shut_out(port)
            # Twisted's own number grows as long as more are waiting.
            port.numberAccepts = min(port.numberAccepts, AT_ONCE)
            return accept()

        port.doRead = accept_or_wait

    def stop(self) -> None:
        """Open nothing any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _has_room(self) -> bool:
        if self._connections() + SPARE >= file_limit():
            return False
        try:
            # Also others may have used the files up: this process, or the whole machine.
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def _shut_out(self, port: Any) -> None:
        port.stopReading()
        self._shut.append(port)
        now = self._clock.seconds()
        if now >= self._told_at + TELL_EVERY:
            self._told_at = now
            self._log.warn(
                "no files for more connections: {count} are there, and {limit} files may be open; newcomers wait",
                count=self._connections(),
                limit=file_limit(),
            )
        if self._timer is None:
            self._timer = self._clock.callLater(LOOK_AGAIN, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._has_room():
            self._timer = self._clock.callLater(LOOK_AGAIN, self._look)
            return
        shut, self._shut = self._shut, []
        for port in shut:
            port.startReading()


@implementer(IOpenSSLContextFactory)
class Certificates:
    """A server's key and certificate chain, both PEM.

    :raises StartError: a file cannot be read, or the two do not fit.
    """

    def __init__(self, key: Path, chain: Path) -> None:
        self._key = key
        self._chain = chain
        self._context = self._read()

    def getContext(self) -> SSL.Context:
        return self._context

    def read_again(self) -> None:
        """Use what the files hold now for new connections; on an error the old ones stay in use.

        :raises StartError: as at the start.
        """
        self._context = self._read()

    def _read(self) -> SSL.Context:
        for file in (self._key, self._chain):
            try:
                file.open("rb").close()
            except OSError as error:
                raise StartError(f"cannot read {file}: {error.strerror}") from None
        for path in (self._key, self._chain):
            if path.exists() and not path.is_file():
                raise StartError(f"TLS: {path} is not a plain file")
        context = CertificateOptions().getContext()
        asked = []

        def password(*_: object) -> bytes:
            """A daemon has nobody to ask, and OpenSSL would ask on the terminal."""
            asked.append(True)
            return b""

        context.set_passwd_cb(password)
        try:
            context.use_certificate_chain_file(str(self._chain))
            context.use_privatekey_file(str(self._key))
            context.check_privatekey()
        except SSL.Error as error:
            reason = (error.args and error.args[0] and error.args[0][0][2]) or "cannot be read"
            if asked:
                reason = "the key has a password"
            raise StartError(f"TLS key {self._key} and certificate {self._chain}: {reason}") from None
        return context


class _Tls(BufferingTLSTransport):
    """Twisted's, without the cycle that each connection leaves which ends without TLS's own good-bye, as most do.

    The error refers to the frame that holds it, and that to the whole connection, 50 KiB: only the collector of
    cycles would find it, which is seldom awake.
    """

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        if reason is not None:
            reason.cleanFailure()


@implementer(IStreamServerEndpoint)
class _TlsEndpoint:
    """What ``reactor.listenSSL`` does, with our transport."""

    def __init__(self, endpoint: Any, certificates: Certificates) -> None:
        self._endpoint = endpoint
        self._certificates = certificates

    def listen(self, factory: Any) -> Any:
        # It provides the interface, which mypy cannot see.
        context: Any = self._certificates
        spoken = TLSMemoryBIOFactory(context, False, factory)
        spoken.protocol = _Tls
        return self._endpoint.listen(spoken)


def endpoint(reactor: Any, description: str) -> tuple[Any, Certificates | None]:
    """The endpoint of a string as twisted.internet.endpoints has it; ``ssl:`` with certificates to be read again.

    ``ssl:PORT:privateKey=FILE[:certKey=FILE][:interface=ADDRESS]``; ``certKey`` is the same file by default.

    :raises StartError: the description cannot be understood.
    """
    if not description.startswith("ssl:"):
        deep = description.partition(":")[0] in _WITH_BACKLOG and ":backlog=" not in description
        try:
            return serverFromString(reactor, f"{description}:backlog={BACKLOG}" if deep else description), None
        except (ValueError, TypeError, KeyError) as error:
            raise StartError(f"listen: {description!r} is no endpoint: {error}") from None
    place, named = _arguments(description)
    unknown = sorted(named.keys() - {"port", "privateKey", "certKey", "interface"})
    port = named.get("port") or (place[0] if place else "")
    if unknown or not port.isdigit() or "privateKey" not in named:
        what = f"unknown {unknown[0]}" if unknown else "a port and privateKey=FILE are needed"
        raise StartError(f"listen: {description!r} is no endpoint: {what}")
    key = Path(named["privateKey"])
    certificates = Certificates(key, Path(named.get("certKey", key)))
    interface = named.get("interface", "")
    tcp = TCP4ServerEndpoint(reactor, int(port), BACKLOG, interface)
    return _TlsEndpoint(tcp, certificates), certificates


def _arguments(description: str) -> tuple[list[str], dict[str, str]]:
    """The parts of an endpoint string; a backslash takes the meaning from the next character."""
    place: list[str] = []
    named: dict[str, str] = {}
    for part in re.findall(r"(?:\\.|[^:\\])+", description)[1:]:
        name, equals, value = part.partition("=")
        if equals:
            named[name] = re.sub(r"\\(.)", r"\1", value)
        else:
            place.append(re.sub(r"\\(.)", r"\1", part))
    return place, named
