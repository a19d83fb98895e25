"""The load generator, compiled and run against a server that makes mistakes: it has to notice each of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor as installed
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from bench.build import compiler, load_generator
from bench.load import Event, flaws
from bench.people import Connection, handshake, write_plan

reactor: Any = installed

Deliver = Callable[["Relay", int, bytes], None]

LOGIN = '{"api_key":21000,"token":"x"}'


class Relay(WebSocketServerFactory):
    """Logs everybody in, acknowledges messages, and gives them to who does not write.

    :param deliver: passes one message on, number *n* of the sender, or does what a broken server does.
    """

    def __init__(self, deliver: Deliver) -> None:
        super().__init__()
        self.protocol = _Relayed
        self.deliver = deliver
        self.listeners: list[_Relayed] = []
        self.sender: _Relayed | None = None
        self.count = 0

    def acknowledge(self, message: bytes, status: str = "Success") -> None:
        assert self.sender is not None
        self.sender.answer(22300, message, status)

    def push(self, message: bytes) -> None:
        for listener in self.listeners:
            listener.answer(32399, message)


class _Relayed(WebSocketServerProtocol):
    factory: Relay

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        frame = json.loads(payload)
        if frame["api_key"] == 21000:
            self.factory.listeners.append(self)
            self.answer(21000, b'{"msg":""}')
            return
        if self.factory.sender is not self:
            self.factory.sender = self
            self.factory.listeners.remove(self)
        number, self.factory.count = self.factory.count, self.factory.count + 1
        self.factory.deliver(self.factory, number, payload)

    def answer(self, api_key: int, message: bytes, status: str = "Success") -> None:
        info = json.loads(message)
        frame = {"api_key": api_key, "data": {"message_info": info}, "code": 200, "message": "", "status": status}
        self.sendMessage(json.dumps(frame, separators=(",", ":")).encode())


def honest(relay: Relay, number: int, message: bytes) -> None:
    relay.acknowledge(message)
    relay.push(message)


class LoadGeneratorTests(TestCase):
    if compiler() is None:
        skip = "there is no C compiler"

    async def run_load(
        self, deliver: Deliver, mode: str = "rate", plan: list[Connection] | None = None, **options: float
    ) -> Event:
        """:param plan: by default two receive what one sends.
        :returns: the result of a fifth of a second, 100 messages a second.
        """
        relay = Relay(deliver)
        port = reactor.listenTCP(0, relay, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        directory = Path(self.mktemp())
        directory.mkdir()
        head = '{"api_key":22300,"msg":"hello","cmid":"'
        usual = [Connection("receive", 0, LOGIN, "")] * 2 + [Connection("send", 0, LOGIN, head)]
        write_plan(directory / "plan", usual if plan is None else plan)
        (directory / "head").write_bytes(handshake(number).encode())
        settings = {"warm": 0, "measure": 0.2, "rate": 100, "drain": 0.3, "counts": directory / "counts", **options}
        arguments = [str(number), str(directory / "plan"), str(directory / "head"), mode]
        arguments += [f"{name}={value}" for name, value in settings.items()]
        out, err, code = await getProcessOutputAndValue(os.fspath(load_generator()), arguments, env=os.environ)
        self.assertEqual((err, code), (b"", 0))
        events = [json.loads(line) for line in out.splitlines()]
        self.samples = [event for event in events if event["event"] == "sample"]
        others = [event["event"] for event in events if event["event"] != "sample"]
        self.assertEqual(others, ["ready", "measuring", "measured", "result"])
        self.counts = (directory / "counts").read_text()
        return dict(events[-1])

    async def test_honest(self) -> None:
        """A server that does everything right is told to have done so, and every message is in the numbers."""
        result = await self.run_load(honest, drain=10)
        self.assertEqual(flaws(result), [])
        sent = result["sent"]
        self.assertTrue(0 < sent <= 20, sent)
        self.assertEqual(
            (result["acked_all"], result["expected_pushes"], result["pushed_all"]), (sent, 2 * sent, 2 * sent)
        )
        self.assertTrue(0 < result["ack"]["count"] <= sent and 0 < result["push"]["count"] <= 2 * sent, result)
        self.assertEqual(self.counts, f"0 {sent} {sent}\n")

    async def test_samples(self) -> None:
        """Who asks for samples sees the latencies of each part of the measurement while it goes on."""
        result = await self.run_load(honest, sample=0.06)
        self.assertEqual([event["event"] for event in self.samples], ["sample"] * 3)
        counts = [event["push"]["count"] for event in self.samples]
        self.assertTrue(all(counts) and sum(counts) <= result["push"]["count"], counts)

    async def test_closed_loop(self) -> None:
        """With a window of three, three are on their way: who never acknowledges gets no fourth."""

        def silent(relay: Relay, number: int, message: bytes) -> None:
            relay.push(message)

        result = await self.run_load(silent, "closed", window=3)
        self.assertEqual((result["sent"], result["acked_all"], result["pushed_all"]), (3, 0, 6))
        self.assertEqual(flaws(result), ["3 not acknowledged"])
        self.assertGreater((await self.run_load(honest, "closed", window=3))["acked"], 3)

    async def test_asked(self) -> None:
        """Commands of other kinds go out in turn, pushes among the answers do not count, nor does a wrong answer."""
        keys: list[int] = []
        head = '{"api_key":22000,"request_id":"\t{"api_key":22060,"request_id":"'

        def answering(relay: Relay, number: int, message: bytes) -> None:
            frame = json.loads(message)
            keys.append(frame["api_key"])
            assert relay.sender is not None
            relay.sender.answer(22099, b"{}")
            request_id = "0-99-1" if number == 5 and wrong else frame["request_id"]
            answer = {"api_key": frame["api_key"], "data": {}, "code": 200, "status": "Success"}
            relay.sender.sendMessage(json.dumps({**answer, "request_id": request_id}, separators=(",", ":")).encode())

        wrong = False
        plan = [Connection("ask", 0, LOGIN, head)]
        result = await self.run_load(answering, plan=plan)
        self.assertEqual((flaws(result), result["acked"], keys), ([], 20, [22000, 22060] * 10))
        wrong = True
        self.assertEqual((await self.run_load(answering, plan=plan))["strange"], 15)

    async def test_lost(self) -> None:
        """A message that one receiver never gets is missing."""

        def forgetful(relay: Relay, number: int, message: bytes) -> None:
            relay.acknowledge(message)
            for listener in relay.listeners[number == 5 :]:
                listener.answer(32399, message)

        result = await self.run_load(forgetful)
        self.assertEqual(result["missing"], 1)
        self.assertIn("1 not delivered", flaws(result))

    async def test_twice(self) -> None:
        """A message that comes again is counted, also where it is the last one."""

        def stammering(relay: Relay, number: int, message: bytes) -> None:
            honest(relay, number, message)
            if number in (5, 19):
                relay.push(message)

        self.assertEqual((await self.run_load(stammering))["duplicate"], 4)

    async def test_out_of_order(self) -> None:
        """Two messages that change places are noticed."""
        kept: list[bytes] = []

        def shuffling(relay: Relay, number: int, message: bytes) -> None:
            relay.acknowledge(message)
            if number == 5:
                kept.append(message)
            else:
                relay.push(message)
                if kept:
                    relay.push(kept.pop())

        result = await self.run_load(shuffling)
        self.assertEqual((result["missing"], result["duplicate"]), (2, 2))

    async def test_another_conversation(self) -> None:
        """A message that reaches the wrong people is noticed."""

        def careless(relay: Relay, number: int, message: bytes) -> None:
            relay.acknowledge(message)
            relay.push(message.replace(b'"cmid":"0-', b'"cmid":"1-') if number == 5 else message)

        self.assertEqual((await self.run_load(careless))["strange"], 2)

    async def test_refused(self) -> None:
        """An error in place of an acknowledgement is told as the server worded it."""

        def refusing(relay: Relay, number: int, message: bytes) -> None:
            relay.acknowledge(message, "Error" if number == 5 else "Success")

        result = await self.run_load(refusing)
        self.assertEqual(result["refused"], 1)
        self.assertIn("'status':'Error'", result["error"])

    async def test_closed(self) -> None:
        """A connection that the server closes is told, with code and reason."""

        def closing(relay: Relay, number: int, message: bytes) -> None:
            honest(relay, number, message)
            if number == 5:
                relay.listeners.pop(0).sendClose(4002, "too slow a reader")

        result = await self.run_load(closing)
        self.assertEqual(result["closed"], 1)
        self.assertIn("closed with 4002 too slow a reader", result["error"])
