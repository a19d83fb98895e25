"""``twistd chatproto``: options, start-up lines, signals and exit codes."""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import signal
import sys
import time
from dataclasses import replace
from typing import Any

from autobahn.websocket import USES_NVX
from twisted.application.service import Service
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chatproto import __version__
from chatproto.config import Config, Options
from chatproto.demo import CUSTOMER, Demo
from chatproto.errors import StartError
from chatproto.listening import file_limit, room_for
from chatproto.server import ChatServer
from chatproto.wire import codes

__all__ = ["Options", "makeService"]

DEMO_TTL = 7 * 86400.0
"""Seconds that the tokens of the demo are good for."""

log = Logger()
reactor: Any = installed_reactor


def makeService(options: Options) -> Service:
    """What the twistd plugin asks for."""
    return ChatService(options.config)


class ChatService(Service):
    """Runs a :class:`~chatproto.server.ChatServer` for as long as twistd runs."""

    name = "chatproto"

    def __init__(self, config: Config) -> None:
        # Twisted's own is the time of day: a step of the clock would stall or hurry every timer.
        reactor.seconds = time.monotonic
        _raise_file_limit()
        self._wanted = config.max_connections
        self._config = config = replace(config, max_connections=room_for(self._wanted))
        self._server = ChatServer(config, reactor, self._died)
        self._starting: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminated)
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(self._server.read_again))
        self._starting = Deferred.fromCoroutine(self._started())

    def _terminated(self, *_: object) -> None:
        """Twisted's own handler would make twistd end by the signal; to have drained is a success."""
        reactor.callFromThread(self._stop_reactor)

    def _stop_reactor(self) -> None:
        if reactor.running and not reactor._stopped:
            reactor.stop()

    async def _started(self) -> None:
        try:
            await self._server.start()
        except StartError as error:
            self._died(f"cannot start: {error}")
        except Exception as error:
            log.failure("cannot start")
            self._died(f"cannot start: {type(error).__name__}: {error}")
        else:
            _calm_collector()
            self._tell()
            self._tell_room()
            if self._server.demo is not None:
                self._tell_demo(self._server.demo)

    def _tell(self) -> None:
        config = self._config
        listening = ", ".join(str(port.getHost()) for port in self._server.ports)
        log.info(
            "chatproto {version} listens on {listening}; database {database}, bus {bus}, data in {data}, NVX {nvx}",
            version=__version__,
            listening=listening,
            database=config.database_shown,
            bus=config.bus,
            data=config.data,
            nvx="on" if USES_NVX else "off",
        )

    def _tell_room(self) -> None:
        room, wanted = self._config.max_connections, self._wanted
        if room < wanted:
            log.warn(
                "room for {room} connections instead of {wanted}: {limit} files may be open",
                room=room,
                wanted=wanted,
                limit=file_limit(),
            )

    def _tell_demo(self, demo: Demo) -> None:
        """Where to go and what to paste, on the terminal itself and without a time stamp in front."""
        keyring, now = self._server.services.keyring, time.time()
        alice, bob = (keyring.issue({"admin_id": admin_id}, DEMO_TTL, now) for admin_id in demo.admin_ids)
        guest = keyring.issue(CUSTOMER, DEMO_TTL, now)
        host = self._server.ports[0].getHost()
        port = getattr(host, "port", host)
        login = {"api_key": codes.ADMIN_LOGIN, "call_type": codes.CALL_ADMIN}
        lines = [
            "",
            f"Without a browser: connect to ws://localhost:{port}/ "
            f"(python -m websockets ws://localhost:{port}/), and paste one line:",
            "",
            f"Alice, who serves group {demo.group_id}:",
            json.dumps({**login, "token": alice}),
            "",
            "Bob, her colleague, whose client knows all pushes:",
            json.dumps({**login, "token": bob, "v": 2}),
            "",
            "Gina, a customer:",
            json.dumps(
                {
                    "api_key": codes.GUEST_LOGIN,
                    "call_type": codes.CALL_GUEST,
                    "token": guest,
                    "group_id": demo.group_id,
                }
            ),
            "",
            "then, as Gina, for a first conversation:",
            json.dumps({"api_key": codes.GUEST_SEND, "msg": "Hello, is anybody there?"}),
            "",
            "In a browser:",
            "",
            f"  agents     http://localhost:{port}/console/",
            f"             name Alice (or Bob), password {self._server.demo_password}",
            f"  customers  http://localhost:{port}/demo/?group={demo.group_id}",
            "",
        ]
        print("\n".join(lines), file=sys.__stdout__, flush=True)

    def _died(self, line: str) -> None:
        """End with exit code 1, which twistd has no way to ask for."""
        log.critical("{line}", line=line)
        print(f"chatproto: {line}", file=sys.__stderr__, flush=True)
        atexit.register(_exit_failed)
        self._stop_reactor()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._server.stop())


def _raise_file_limit() -> None:
    """As many connections as the operator allows: the soft limit is for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _calm_collector() -> None:
    """Look for cyclic garbage less often: what was made so far stays, and messages make hardly any cycles.

    With Python's defaults the collector took a quarter of the time of a message.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _exit_failed() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
