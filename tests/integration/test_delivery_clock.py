"""The clock is stepped by an hour, ahead and back, in the middle of a load (docs/operations.md, *Known limits*).

Timers are monotonic and go on; what is dated moves with the step: tokens by the daemon's clock, leases by the
database's.
"""

from __future__ import annotations

import signal

from tests.database import fresh_database
from tests.integration.client import Client
from tests.integration.daemon import eventually, token
from tests.integration.delivery import CALM, DeliveryTestCase
from tests.integration.hurried import hurried
from tests.integration.stepping import HOUR

AHEAD = "CREATE OR REPLACE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE RETURN {}"
NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class DaemonClockTests(DeliveryTestCase):
    async def step(self, number: int, hours: int) -> None:
        """Step the clock of the daemon, which is so many hours wrong then."""
        self.daemon.signal(number)
        beating = self.load.writers[0].client

        async def stepped() -> bool:
            told = (await beating.beat())["data"]["server_time"] / 1000
            return abs(told - self.now() - hours * HOUR) < HOUR / 2

        await eventually(stepped, f"a clock that is {hours} h wrong")

    def now(self) -> float:
        [(now,)] = self.daemon.sql(f"SELECT {NOW}")
        return float(now) / 1000

    async def visitor(self) -> Client:
        """Somebody who does not log in."""
        return await self.client("visitor").connect(self.daemon.port)

    async def test_stepped_ahead_and_back(self) -> None:
        """Connections, heartbeats and time limits do not notice; tokens expire by the new time; nothing is lost."""
        await self.run_daemon(
            *("--login-timeout", "3", "--ping-after", "1", "--dead-after", "20"),
            database=await fresh_database(),
            program=("-m", "tests.integration.stepping"),
        )
        load = self.make_load(pause=CALM)
        await load.begin(50)
        admin_id = load.admins[0].admin_id
        short = await self.admin(admin_id, "half an hour left", life=HOUR / 2)
        long = await self.admin(admin_id, "two hours left", life=2 * HOUR)
        visitor = await self.visitor()
        await self.step(signal.SIGUSR1, 1)
        # Closed by the same timer that looks after all others.
        self.assertEqual(await short.closed(), (4001, "the token expired"))
        self.assertEqual(await long.code(33000), 200)
        self.assertIsNone(visitor.end)
        await visitor.good_request(21000, call_type=1, group_id=self.group_id)
        await load.more(50)

        # An hour behind, with timers that were set an hour ahead.
        await self.step(signal.SIGUSR2, 0)
        await self.step(signal.SIGUSR2, -1)
        late, early = await self.visitor(), await self.visitor()
        await load.more(50)
        # The token was made in what is the future by the daemon's clock.
        self.assertEqual(await early.code(31000, call_type=3, token=token(admin_id=admin_id)), -31001)
        await early.good_request(31000, call_type=3, token=token(admin_id=admin_id, age=1.5 * HOUR, life=3 * HOUR))
        self.assertEqual((await late.closed())[0], 4004)
        await self.step(signal.SIGUSR1, 0)
        for client in (long, early, visitor):
            self.assertEqual((await client.beat())["code"], 200)
        await load.settle()
        self.stayed(load)
        self.assertNotIn("was given up", self.daemon.log)
        self.keeps_its_promises(150)


class DatabaseClockTests(DeliveryTestCase):
    async def test_stepped_ahead_and_back(self) -> None:
        """The node's lease is over, and it comes back by itself: its clients stay, are told, and nothing is lost."""
        await self.run_daemon("--service-idle", "0", database=await fresh_database(), **hurried(10))
        load = self.make_load(pause=CALM)
        await load.begin(50)
        self.step(1)
        await self.daemon.logged("was given up and is back")
        for admin in load.admins:
            await admin.client.push(39099)
        for guest in load.guests:
            await guest.client.push(29099)
        await load.more(50)
        self.step(-1)
        await load.more(50)

        async def renewed() -> bool:
            return bool(self.daemon.sql("SELECT 1 FROM node WHERE lease_until < now_ms() + %s", int(HOUR * 1000)))

        await eventually(renewed, "a lease by the new time")
        await load.settle()
        self.stayed(load)
        # The order is that of seq, whatever the dates say.
        self.assertNotEqual(self.daemon.sql("SELECT 1 FROM message WHERE created_at > now_ms()"), [])
        self.keeps_its_promises(150)

    def step(self, hours: int) -> None:
        """Step the clock of the database: from now on it is so many hours wrong."""
        self.daemon.sql(AHEAD.format(f"{NOW} + {int(hours * HOUR * 1000)}"))
