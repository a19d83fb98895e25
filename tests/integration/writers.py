"""Clients that write on and on and come back after every fault; what they send and see stands in a ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall

from chatproto.wire import codes
from tests.integration.client import Client, ConnectionGone, Frame
from tests.integration.daemon import eventually, token
from tests.integration.ledger import UNKNOWN, Entry, Ledger, Sender, View

_NEWS = {
    codes.PUSH_GUEST_MESSAGE,
    codes.PUSH_OWN_MESSAGE,
    codes.PUSH_ADMIN_MESSAGE,
    codes.PUSH_GUEST_OWN_MESSAGE,
}
_LIFE = 86400.0
"""Seconds that tokens are good for: a load outlives a step of the clock."""


class Writer:
    """Somebody who writes, repeats what is unknown and fetches what was missed.

    :param port: where the daemon listens by now.
    :param window: sends that may be unanswered at once.
    :param cmids: whether messages carry a cmid. Without one, what is unknown cannot be repeated, and stays so.
    :ivar pause: seconds between two fillings of the window; 0 fills it with each answer.
    """

    pause = 0.0

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        group_id: int,
        port: Callable[[], int],
        *,
        window: int = 8,
        cmids: bool = True,
    ) -> None:
        self.ledger = ledger
        self.name = name
        self.group_id = group_id
        self.port = port
        self.window = window
        self.cmids = cmids
        self.view = View(name)
        self.client = Client(name)
        self.writing = False
        self._filling = LoopingCall(self._write_on)
        self._under_way = 0
        self._count = 0
        ledger.views.append(self.view)

    # What differs between the two sides.

    @property
    def sender(self) -> Sender:
        raise NotImplementedError

    def targets(self) -> list[int]:
        """The guests whose conversations are written in, in turns."""
        raise NotImplementedError

    async def log_in(self, client: Client) -> None:
        raise NotImplementedError

    def request(self, entry: Entry) -> Frame:
        """The send."""
        raise NotImplementedError

    async def page(self, gid: int, after_seq: int) -> Frame:
        raise NotImplementedError

    # The load.

    async def come(self) -> None:
        """Connect and log in."""
        client = self.client = Client(self.name)
        client.on_push = self.pushed
        self.view.connected()
        await self.log_in(client)

    def write(self) -> None:
        """Keep the window full until :meth:`rest` or the end of the connection."""
        self.writing = True
        if not self.pause:
            self._write_on()
        elif not self._filling.running:
            self._filling.start(self.pause)

    def _write_on(self) -> None:
        while self.writing and self._under_way < self.window and self.client.end is None and self.targets():
            sent = self.send(self.entry())
            if not self.pause:
                sent.addCallback(lambda _: self._write_on())

    def rest(self) -> None:
        """Write nothing new."""
        self.writing = False
        if self._filling.running:
            self._filling.stop()

    def entry(self) -> Entry:
        """Something new to say, in one of the conversations."""
        self._count += 1
        targets = self.targets()
        cmid = f"{self.name}-{self._count}" if self.cmids else None
        gid = targets[self._count % len(targets)]
        return Entry(cmid, gid, self.sender, f"{self.name} says {self._count}")

    def send(self, entry: Entry) -> Deferred[None]:
        """Fires, without a failure, once the answer or the end of the connection has been noted."""
        self._under_way += 1
        self.ledger.send(entry)
        return self.client.request(**self.request(entry)).addBoth(self._answered, entry)

    async def resume(self) -> None:
        """Come back after a fault: connect, repeat what is unknown, fetch what was missed."""
        await self.client.drop()
        await eventually(self._came_back, f"{self.name} is back")
        await self.settle()
        await self.catch_up()

    async def settle(self) -> None:
        """Repeat what is unknown, in its order, until the server has said of each what became of it."""

        async def settled() -> bool:
            await DeferredList([self.send(entry) for entry in self._open() if entry.state == UNKNOWN])
            return not self._open()

        await eventually(settled, f"{self.name} knows everything")

    async def catch_up(self) -> None:
        """Fetch by ``after_seq`` what is missing in the conversations of :meth:`targets`."""
        for gid in self.targets():
            self.view.follows.add(gid)
            after = 0
            while (gid, after + 1) in self.view.seen:
                after += 1
            while True:
                page = await self.page(gid, after)
                for info in page["recs"].values():
                    self.view.add(info)
                after = max([after, *map(int, page["recs"])])
                if not page["has_more"]:
                    break

    async def _came_back(self) -> bool:
        try:
            await self.come()
        except Exception:
            # Whatever it is: the daemon, the database or the port is not there yet.
            await self.client.drop()
            return False
        return True

    def _open(self) -> list[Entry]:
        return [entry for entry in self.ledger.open if entry.sender == self.sender]

    def _answered(self, result: Any, entry: Entry) -> None:
        self._under_way -= 1
        if not isinstance(result, dict):
            result.trap(ConnectionGone)
            self.ledger.lose(entry)
        elif result["code"] == 200:
            data = result["data"]
            self.view.add(data["message_info"])
            self.ledger.acknowledge(entry, data["message_info"]["seq"], self.name, data.get("dup", False))
        elif result["data"].get("outcome") == "unknown":
            self.ledger.lose(entry)
        else:
            self.ledger.refuse(entry)

    def pushed(self, frame: Frame) -> None:
        data = frame["data"]
        if frame["api_key"] in _NEWS:
            self.view.push(data["message_info"])
        self._show(data)

    def _show(self, data: Frame) -> None:
        for info in data.get("recs", {}).values():
            self.view.add(info)


class GuestWriter(Writer):
    gid = 0
    guest_token = ""

    @property
    def sender(self) -> Sender:
        return ("guest", self.gid)

    def targets(self) -> list[int]:
        return [self.gid]

    async def log_in(self, client: Client) -> None:
        known = {"guest_token": self.guest_token} if self.guest_token else {}
        await client.guest(self.port(), group_id=self.group_id, **known)
        self.gid, self.guest_token = client.gid, client.data["guest_token"]
        self._show(client.data)

    def request(self, entry: Entry) -> Frame:
        return {"api_key": 22300, "msg": entry.text, "cmid": entry.cmid}

    async def page(self, gid: int, after_seq: int) -> Frame:
        return await self.client.good_request(22100, after_seq=after_seq, page_size=100)


class AdminWriter(Writer):
    """An admin who writes to all guests that the admin serves."""

    admin_id = 0

    @property
    def sender(self) -> Sender:
        return ("admin", self.admin_id)

    def targets(self) -> list[int]:
        return sorted(self._guests)

    _guests: frozenset[int] = frozenset()

    async def log_in(self, client: Client) -> None:
        await client.connect(self.port())
        reply = await client.request(31000, call_type=3, token=token(admin_id=self.admin_id, life=_LIFE), v=2)
        entries = client.good(reply)["guest_list"].values()
        self._guests = frozenset(e["gid"] for e in entries if e["admin_id"] == self.admin_id)

    def request(self, entry: Entry) -> Frame:
        return {"api_key": 32300, "gid": entry.gid, "msg": entry.text, "cmid": entry.cmid}

    async def page(self, gid: int, after_seq: int) -> Frame:
        return await self.client.good_request(
            32100, gid=gid, group_id=self.group_id, after_seq=after_seq, page_size=100
        )

    def pushed(self, frame: Frame) -> None:
        super().pushed(frame)
        if frame["api_key"] == 32401:
            self._guests |= {frame["data"]["gid"]}
            # Who had no guest writes as soon as one comes.
            self._write_on()
        elif frame["api_key"] == 32099 and frame["data"]["admin_id"] != self.admin_id:
            self._guests -= {frame["data"]["gid"]}


class Load:
    """Admins and guests who all write to each other; the last one of either side gives no cmids.

    :param ports: where the daemons listen by now, which the clients are dealt to in turns.
    :param pause: seconds that everybody makes before writing more; where a test has to wait for something else, a
        machine that is busy with messages is of no use.
    """

    def __init__(
        self,
        group_id: int,
        admin_ids: Sequence[int],
        ports: Sequence[Callable[[], int]],
        *,
        guests: int = 4,
        pause: float = 0.0,
    ) -> None:
        self.ledger = Ledger()
        self.group_id = group_id
        self.admins = [
            AdminWriter(self.ledger, f"admin{id_}", group_id, ports[n % len(ports)], cmids=n < len(admin_ids) - 1)
            for n, id_ in enumerate(admin_ids)
        ]
        for admin, admin_id in zip(self.admins, admin_ids, strict=True):
            admin.admin_id = admin_id
        self.guests = [
            GuestWriter(self.ledger, f"guest{n}", group_id, ports[n % len(ports)], cmids=n < guests - 1)
            for n in range(guests)
        ]
        for writer in self.writers:
            writer.pause = pause

    @property
    def writers(self) -> list[Writer]:
        return [*self.admins, *self.guests]

    async def come(self) -> None:
        """Log everybody in."""
        for writer in self.writers:
            await writer.come()

    def write(self, writers: Iterable[Writer] | None = None) -> None:
        """Let everybody (or those) write without a pause."""
        for writer in self.writers if writers is None else writers:
            writer.write()

    async def begin(self, messages: int = 200) -> None:
        """Log everybody in, and write until so many messages are acknowledged; the writing goes on."""
        await self.come()
        for guest in self.guests:
            await guest.client.good_request(22000)
        self.write()
        await self.more(messages)

    async def more(self, messages: int = 100) -> None:
        """Wait for so many more acknowledgements."""
        wanted = len(self.ledger.acknowledged) + messages
        await self.ledger.until(lambda: len(self.ledger.acknowledged) >= wanted)

    def rest(self) -> None:
        for writer in self.writers:
            writer.rest()

    async def gone(self) -> None:
        """Everybody has lost the connection, and no answer is outstanding."""
        self.rest()
        for writer in self.writers:
            await writer.client.closed()

    async def resume(self) -> None:
        """Everybody comes back after a fault, and knows everything."""
        self.rest()
        for writer in self.writers:
            await writer.resume()
        await self.catch_up()

    async def settle(self) -> None:
        """Everybody learns everything on the connection that they have."""
        self.rest()
        for writer in self.writers:
            await writer.settle()
        await self.catch_up()

    async def catch_up(self) -> None:
        # Who did so early has not yet got what the later ones repeated.
        for writer in self.writers:
            await writer.catch_up()

    async def leave(self) -> None:
        self.rest()
        for writer in self.writers:
            await writer.client.drop()
