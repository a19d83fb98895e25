"""Endpoint strings, with certificates that can be read again while the daemon runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import SSL4ServerEndpoint, serverFromString
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.internet.ssl import CertificateOptions
from zope.interface import implementer

from chatproto.errors import StartError


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


def endpoint(reactor: Any, description: str) -> tuple[Any, Certificates | None]:
    """The endpoint of a string as twisted.internet.endpoints has it; ``ssl:`` with certificates to be read again.

    ``ssl:PORT:privateKey=FILE[:certKey=FILE][:interface=ADDRESS]``; ``certKey`` is the same file by default.

    :raises StartError: the description cannot be understood.
    """
    if not description.startswith("ssl:"):
        try:
            return serverFromString(reactor, description), None
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
    return SSL4ServerEndpoint(reactor, int(port), certificates, interface=interface), certificates


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
