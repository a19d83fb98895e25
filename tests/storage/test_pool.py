"""The pool: results, errors, transactions, waiting, cancelling, and a database that comes and goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from operator import methodcaller
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import provider

from chatproto.errors import StartError, StorageError
from chatproto.storage.pool import Pool, Transaction
from tests.database import DatabaseTestCase, OwnClusterTestCase, execute

reactor: Any = installed


def run(awaitable: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(awaitable)


async def started(case: TestCase, dsn: str, **options: Any) -> Pool:
    pool = Pool(dsn, clock=reactor, **{"size": 1, **options})
    case.addCleanup(lambda: run(pool.close()))
    await pool.start()
    return pool


class Holding:
    """Holds one link of a pool, in a transaction that does nothing, until told to let go."""

    def __init__(self, pool: Pool) -> None:
        self._let_go: Deferred[None] = Deferred()
        self.over: Deferred[Any] = run(pool.transaction(self._work))

    async def _work(self, transaction: Transaction) -> None:
        await self._let_go

    def let_go(self) -> Deferred[Any]:
        self._let_go.callback(None)
        return self.over


class FetchTests(DatabaseTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.pool = await started(self, self.dsn, size=2)

    async def refused(self, sql: str, *params: object) -> StorageError:
        with self.assertRaises(StorageError) as caught:
            await self.pool.fetch(sql, params)
        self.assertIs(caught.exception.applied, False)
        return caught.exception

    async def test_rows(self) -> None:
        """What is asked is answered, with values of any text in it."""
        self.assertEqual(await self.pool.fetch("SELECT 1, %s, 'a%%'", ("客人 '%s' 🙂",)), [(1, "客人 '%s' 🙂", "a%")])
        self.assertEqual(await self.pool.fetch("SELECT %(a)s + %(a)s", {"a": 2}), [(4,)])
        self.assertEqual(await self.pool.fetch("SELECT 'a%'"), [("a%",)])
        self.assertEqual(await self.pool.fetch("CREATE TABLE t (n integer)"), [])
        self.assertEqual(await self.pool.fetch("SELECT * FROM t"), [])

    async def test_later(self) -> None:
        """An answer never comes while the question is being asked: what follows from it would run inside the asker.

        A long statement takes a while to be sent, and its answer may be there by then.
        """
        for _ in range(50):
            answer = run(self.pool.fetch("SELECT length(%s)", ("x" * 9000,)))
            self.assertNoResult(answer)
            self.assertEqual([(9000,)], await answer)

    async def test_refused(self) -> None:
        """What PostgreSQL refuses says why by its code, and says nothing of the row to the log."""
        await self.pool.fetch("CREATE TABLE t (word text UNIQUE)")
        await self.pool.fetch("INSERT INTO t VALUES ('secret')")
        error = await self.refused("INSERT INTO t VALUES (%s)", "secret")
        self.assertEqual(error.sqlstate, "23505")
        self.assertNotIn("secret", Failure(error).getTraceback())

    async def test_time_limit(self) -> None:
        """A statement that takes too long is ended by PostgreSQL, and the connection goes on."""
        pool = await started(self, self.dsn, timeout=0.3)
        [before] = await pool.fetch("SELECT pg_backend_pid()")
        with self.assertRaises(StorageError) as caught:
            await pool.fetch("SELECT pg_sleep(60)")
        self.assertEqual((caught.exception.sqlstate, caught.exception.applied), ("57014", False))
        self.assertEqual(await pool.fetch("SELECT pg_backend_pid()"), [before])

    async def test_unstorable(self) -> None:
        """Text that PostgreSQL cannot hold is refused like any other, and hurts nobody else."""
        for text in ("a\0b", "\udc80"):
            error = await self.refused("SELECT %s", text)
            self.assertIsNone(error.sqlstate)
        self.assertEqual(await self.pool.fetch("SELECT 1"), [(1,)])

    async def test_our_mistake(self) -> None:
        """A statement whose parameters do not fit is our mistake and no storage error; the pool goes on."""
        with self.assertRaises(TypeError):
            await self.pool.fetch("SELECT %s", (1, 2))
        self.assertEqual(await self.pool.fetch("SELECT 1"), [(1,)])

    async def test_many_fail_at_once(self) -> None:
        """Any number of requests that wait and fail at once leave a pool that works."""
        holdings = [Holding(self.pool), Holding(self.pool)]
        failing = [run(self.pool.fetch("SELECT %s", ("\0",))) for _ in range(900)]
        last = run(self.pool.fetch("SELECT 1"))
        await gatherResults([holding.let_go() for holding in holdings])
        results = await DeferredList(failing, consumeErrors=True)
        self.assertEqual({(success, failure.type) for success, failure in results}, {(False, StorageError)})
        self.assertEqual(await last, [(1,)])

    async def test_cut_off(self) -> None:
        """Whether a statement whose connection was lost took effect is said to be unknown, and the pool recovers."""
        pool = await started(self, self.dsn)
        with self.assertRaises(StorageError) as caught:
            await pool.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
        self.assertIsNone(caught.exception.applied)
        self.assertEqual(await pool.fetch("SELECT 1"), [(1,)])

    async def test_left_open(self) -> None:
        """A transaction that somebody opened by hand is never handed on to the next."""
        pool = await started(self, self.dsn)
        await pool.fetch("BEGIN; CREATE TABLE t (n integer)")
        self.assertEqual(await pool.fetch("SELECT to_regclass('t')"), [(None,)])

    async def test_answer_already_there(self) -> None:
        """A daemon that stood still itself for a while takes the answers that came meanwhile."""
        pool = await started(self, self.dsn, timeout=0.2)
        answer = run(pool.fetch("SELECT 1"))
        execute(self.dsn, "SELECT pg_sleep(0.4)")
        self.assertEqual(await answer, [(1,)])


class TransactionTests(DatabaseTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.pool = await started(self, self.dsn)
        await self.pool.fetch("CREATE TABLE t (n integer PRIMARY KEY)")

    async def failing(self, work: Callable[[Transaction], Awaitable[Any]]) -> StorageError:
        """Run a transaction that must fail, and see that nothing of it stayed and the pool works."""
        with self.assertRaises(StorageError) as caught:
            await self.pool.transaction(work)
        self.assertEqual(await self.pool.fetch("SELECT * FROM t"), [])
        return caught.exception

    async def test_commit(self) -> None:
        """All of a transaction is there afterwards, and its result comes back."""

        async def work(transaction: Transaction) -> str:
            await transaction.fetch("INSERT INTO t VALUES (%s)", (1,))
            await transaction.fetch("INSERT INTO t VALUES (2)")
            self.assertEqual(execute(self.dsn, "SELECT * FROM t"), [])
            return "done"

        self.assertEqual(await self.pool.transaction(work), "done")
        self.assertEqual(execute(self.dsn, "SELECT * FROM t ORDER BY n"), [(1,), (2,)])

    async def test_rollback(self) -> None:
        """Of a transaction whose rule refuses, nothing stays, and the refusal comes through."""

        async def work(transaction: Transaction) -> None:
            await transaction.fetch("INSERT INTO t VALUES (1)")
            raise LookupError("refused")

        with self.assertRaisesRegex(LookupError, "refused"):
            await self.pool.transaction(work)
        self.assertEqual(await self.pool.fetch("SELECT * FROM t"), [])

    async def test_read_committed(self) -> None:
        """A statement sees what others committed before it, as the locks of assignment need."""
        seen = []

        async def work(transaction: Transaction) -> None:
            seen.extend(await transaction.fetch("SELECT * FROM t"))
            execute(self.dsn, "INSERT INTO t VALUES (1)")
            seen.extend(await transaction.fetch("SELECT * FROM t"))

        await self.pool.transaction(work)
        self.assertEqual(seen, [(1,)])

    async def test_error_swallowed(self) -> None:
        """A transaction that PostgreSQL has given up is never reported as committed."""

        async def work(transaction: Transaction) -> None:
            await transaction.fetch("INSERT INTO t VALUES (1)")
            with self.assertRaises(StorageError):
                await transaction.fetch("INSERT INTO t VALUES (1)")

        error = await self.failing(work)
        self.assertEqual((error.sqlstate, error.applied), ("25P02", False))

    async def test_deadlock(self) -> None:
        """Of two transactions that wait for each other one is given up, and done again: both happen."""
        await self.pool.fetch("INSERT INTO t VALUES (1), (2)")
        pool = await started(self, self.dsn, size=2)
        met: list[Deferred[None]] = [Deferred(), Deferred()]
        runs = []

        async def work(transaction: Transaction, mine: int) -> int:
            runs.append(mine)
            await transaction.fetch("SET LOCAL deadlock_timeout = '50ms'")
            await transaction.fetch("UPDATE t SET n = n + 10 WHERE n %% 10 = %s", (mine,))
            if not met[mine - 1].called:
                met[mine - 1].callback(None)
            await DeferredList(met)
            await transaction.fetch("UPDATE t SET n = n + 10 WHERE n %% 10 = %s", (3 - mine,))
            return mine

        both = [run(pool.repeated(partial(work, mine=mine))) for mine in (1, 2)]
        self.assertEqual(await gatherResults(both), [1, 2])
        self.assertEqual(len(runs), 3)
        self.assertEqual(await self.pool.fetch("SELECT n FROM t ORDER BY n"), [(21,), (22,)])

    async def test_given_up_twice(self) -> None:
        """What is given up again is said to have failed, certainly; what failed for another reason is not repeated."""
        runs = []

        async def work(transaction: Transaction, sqlstate: str) -> None:
            runs.append(sqlstate)
            await transaction.fetch(f"DO $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$")

        for sqlstate, times in (("40001", 2), ("40P01", 2), ("23505", 1)):
            with self.assertRaises(StorageError) as caught:
                await self.pool.repeated(partial(work, sqlstate=sqlstate))
            self.assertEqual((caught.exception.sqlstate, caught.exception.applied), (sqlstate, False))
            self.assertEqual(runs.count(sqlstate), times)

    async def test_savepoint(self) -> None:
        """An error inside a savepoint costs only what came after it."""

        async def work(transaction: Transaction) -> None:
            await transaction.fetch("INSERT INTO t VALUES (1)")
            await transaction.fetch("SAVEPOINT s")
            with self.assertRaises(StorageError):
                await transaction.fetch("INSERT INTO t VALUES (1)")
            await transaction.fetch("ROLLBACK TO s")

        await self.pool.transaction(work)
        self.assertEqual(await self.pool.fetch("SELECT * FROM t"), [(1,)])

    async def test_first_statement_fails(self) -> None:
        """A transaction whose first statement fails, parsed or not, leaves a clean connection."""
        for sql, sqlstate in (("SELECT 1/0", "22012"), ("SELEC", "42601")):
            error = await self.failing(methodcaller("fetch", sql))
            self.assertEqual(error.sqlstate, sqlstate)
            self.assertEqual(await self.pool.fetch("SELECT now() = statement_timestamp()"), [(True,)])

    async def test_time_limit(self) -> None:
        """A transaction with a statement that takes too long fails whole."""
        self.pool = await started(self, self.dsn, timeout=0.3)

        async def work(transaction: Transaction) -> None:
            await transaction.fetch("INSERT INTO t VALUES (1)")
            await transaction.fetch("SELECT pg_sleep(60)")

        error = await self.failing(work)
        self.assertEqual((error.sqlstate, error.applied), ("57014", False))

    async def test_limits_lifted(self) -> None:
        """A migration may take longer than a request; the limits are back for whoever comes next."""
        pool = await started(self, self.dsn, timeout=1)

        async def work(transaction: Transaction) -> None:
            await transaction.lift_limits()
            await transaction.fetch("SELECT pg_sleep(1.5)")

        await pool.transaction(work)
        with self.assertRaises(StorageError) as caught:
            await pool.fetch("SELECT pg_sleep(60)")
        self.assertEqual(caught.exception.sqlstate, "57014")

    async def test_cut_off(self) -> None:
        """A connection lost before the commit undid everything for certain, between statements and within one."""

        async def within(transaction: Transaction) -> None:
            await transaction.fetch("INSERT INTO t VALUES (1)")
            await transaction.fetch("SELECT pg_terminate_backend(pg_backend_pid())")

        async def between(transaction: Transaction) -> None:
            [(pid,)] = await transaction.fetch("INSERT INTO t VALUES (1) RETURNING pg_backend_pid()")
            execute(self.dsn, "SELECT pg_terminate_backend(%s, 5000)", pid)

        async def swallowed(transaction: Transaction) -> None:
            with self.assertRaises(StorageError):
                await within(transaction)
            with self.assertRaises(StorageError) as caught:
                await transaction.fetch("INSERT INTO t VALUES (2)")
            self.assertIs(caught.exception.applied, False)

        for work in (within, swallowed):
            self.assertIs((await self.failing(work)).applied, False)
        # Here the COMMIT may be on its way before the loss is noticed: that is not certain then.
        await self.failing(between)

    async def test_commit_lost(self) -> None:
        """Whether a commit whose connection was lost took effect is said to be unknown."""
        await self.pool.fetch(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION die()"
        )
        error = await self.failing(lambda transaction: transaction.fetch("INSERT INTO t VALUES (1)"))
        self.assertIsNone(error.applied)

    async def test_commit_refused(self) -> None:
        """A commit that PostgreSQL refuses says so, and nothing stays."""
        await self.pool.fetch("CREATE TABLE u (n integer REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
        error = await self.failing(lambda transaction: transaction.fetch("INSERT INTO u VALUES (1)"))
        self.assertEqual((error.sqlstate, error.applied), ("23503", False))

    async def test_standing_still(self) -> None:
        """Work that stops in the middle of its transaction loses it, and so does not keep others from its locks."""
        pool = await started(self, self.dsn, timeout=0.5)
        stopped: Deferred[None] = Deferred()
        inserted: Deferred[None] = Deferred()

        async def work(transaction: Transaction) -> None:
            await transaction.fetch("INSERT INTO t VALUES (1)")
            inserted.callback(None)
            await stopped

        standing = run(pool.transaction(work))
        await inserted
        await self.pool.fetch("INSERT INTO t VALUES (1)")
        stopped.callback(None)
        await self.assertFailure(standing, StorageError)

    async def test_one_at_a_time(self) -> None:
        """Statements of one transaction side by side, or after its end, are our mistake and are told so."""
        kept = []

        async def work(transaction: Transaction) -> None:
            kept.append(transaction)
            first = run(transaction.fetch("INSERT INTO t VALUES (1)"))
            with self.assertRaises(RuntimeError):
                await transaction.fetch("INSERT INTO t VALUES (2)")
            await first

        await self.pool.transaction(work)
        with self.assertRaises(RuntimeError):
            await kept[0].fetch("INSERT INTO t VALUES (3)")
        self.assertEqual(await self.pool.fetch("SELECT * FROM t"), [(1,)])

    async def test_nothing_to_do(self) -> None:
        """A transaction that needs no statement touches nothing."""

        async def work(transaction: Transaction) -> int:
            return 7

        self.assertEqual(await self.pool.transaction(work), 7)


class WaitingTests(DatabaseTestCase):
    async def test_room(self) -> None:
        """When too many wait already, who comes next is told at once that nothing was done."""
        pool = await started(self, self.dsn, waiting=2)
        holding = Holding(pool)
        waiting = [run(pool.fetch("SELECT %s", (n,))) for n in range(2)]
        for request in (pool.fetch("SELECT 1"), pool.transaction(lambda transaction: transaction.fetch("SELECT 1"))):
            failure = self.failureResultOf(run(request), StorageError)
            self.assertIs(failure.value.applied, False)
        await holding.let_go()
        self.assertEqual(await gatherResults(waiting), [[(0,)], [(1,)]])

    async def test_order(self) -> None:
        """First come, first served: also who asks again and again stands behind who waits."""
        pool = await started(self, self.dsn)
        holding = Holding(pool)
        order: list[str] = []

        async def ask(name: str, times: int) -> None:
            for turn in range(times):
                await pool.fetch("SELECT 1")
                order.append(f"{name}{turn}")

        asking = [run(ask("a", 3)), run(ask("b", 1)), run(ask("c", 2))]
        await holding.let_go()
        await gatherResults(asking)
        self.assertEqual(order, ["a0", "b0", "c0", "a1", "c1", "a2"])

    async def test_no_link_in_time(self) -> None:
        """Who waits for too long is told that nothing was done."""
        pool = await started(self, self.dsn, timeout=0.2)
        holding = Holding(pool)
        failure = await self.assertFailure(run(pool.fetch("SELECT 1")), StorageError)
        self.assertIs(failure.applied, False)
        await holding.let_go()
        self.assertEqual(await pool.fetch("SELECT 1"), [(1,)])

    async def test_cancel_waiting(self) -> None:
        """A request that was cancelled while it waited is never carried out, and its place is free."""
        pool = await started(self, self.dsn, waiting=1)
        holding = Holding(pool)
        cancelled = run(pool.fetch("CREATE TABLE t (n integer)"))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        waiting = run(pool.fetch("SELECT to_regclass('t')"))
        await holding.let_go()
        self.assertEqual(await waiting, [(None,)])

    async def test_cancel_running(self) -> None:
        """A cancelled statement goes on to its end before its connection serves the next."""
        pool = await started(self, self.dsn)
        cancelled = run(pool.fetch("CREATE TABLE t (n integer); SELECT pg_sleep(0.1)"))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertEqual(await pool.fetch("SELECT 5, to_regclass('t')::text"), [(5, "t")])

    async def test_cancel_transaction(self) -> None:
        """A transaction that is cancelled while a statement runs is rolled back before the next one starts."""
        pool = await started(self, self.dsn)

        async def work(transaction: Transaction) -> None:
            await transaction.fetch("CREATE TABLE t (n integer)")
            await transaction.fetch("SELECT pg_sleep(0.1)")

        cancelled = run(pool.transaction(work))
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertEqual(await pool.fetch("SELECT to_regclass('t')"), [(None,)])

    async def test_close(self) -> None:
        """At the end, what runs or waits is carried out, and what comes later is refused."""
        pool = await started(self, self.dsn)
        running = run(pool.fetch("SELECT 1 FROM pg_sleep(0.1)"))
        waiting = run(pool.fetch("SELECT 2"))
        closed = run(pool.close())
        failure = self.failureResultOf(run(pool.fetch("SELECT 3")), StorageError)
        self.assertIs(failure.value.applied, False)
        await closed
        self.assertEqual([self.successResultOf(running), self.successResultOf(waiting)], [[(1,)], [(2,)]])
        self.assertFalse(pool.ready)

    async def test_close_is_bounded(self) -> None:
        """Work that never ends does not keep the daemon from stopping."""
        pool = await started(self, self.dsn, timeout=0.2)
        holding = Holding(pool)
        waiting = run(pool.fetch("SELECT 1"))
        await pool.close()
        self.failureResultOf(waiting, StorageError)
        self.assertIs((await self.assertFailure(holding.let_go(), StorageError)).applied, False)


class StartTests(DatabaseTestCase):
    async def test_no_such_database(self) -> None:
        """A database that is not there is said in one line, at once."""
        pool = Pool(self.dsn.replace("chatproto_test", "nowhere"), clock=reactor, size=1)
        with self.assertRaisesRegex(StartError, r'\Adatabase: [^\n]*"nowhere.*" does not exist\Z'):
            await pool.start()
        self.assertFalse(pool.ready)


class OutageTests(OwnClusterTestCase):
    def listen_to_log(self) -> list[str]:
        lines: list[str] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event["log_namespace"] == "chatproto.storage.pool" and event["log_level"].name != "debug":
                lines.append(event["log_format"].partition(" (")[0])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return lines

    async def notice_loss(self, pool: Pool) -> None:
        """The reactor stood still while the cluster was worked on: let it see what became of the connections."""
        while pool.ready:
            await deferLater(reactor, 0)

    async def test_start_before_the_server(self) -> None:
        """A daemon that starts a little earlier than its database waits for it."""
        self.cluster.stop()
        pool = Pool(self.dsn, clock=reactor, size=1)
        self.addCleanup(lambda: run(pool.close()))
        starting = run(pool.start())
        self.assertNoResult(starting)
        self.cluster.start()
        await starting
        self.assertTrue(pool.ready)

    async def test_restart_under_load(self) -> None:
        """A restart of PostgreSQL costs only what was under way, is logged in two lines, and is over by itself."""
        pool = await started(self, self.dsn, size=4)
        lines = self.listen_to_log()
        failed: list[StorageError] = []
        answered = [0]
        over = [False]

        async def ask() -> None:
            while not over[0]:
                try:
                    await pool.fetch("SELECT 1")
                    answered[0] += 1
                except StorageError as error:
                    failed.append(error)

        async def until_more() -> None:
            enough = answered[0] + 100
            while answered[0] < enough:
                await pool.fetch("SELECT 1")

        asking = [run(ask()) for _ in range(20)]
        await until_more()
        self.cluster.restart()
        # What was under way fails now; everybody else waits for the pool to connect again.
        self.assertEqual(await pool.fetch("SELECT 1"), [(1,)])
        await until_more()
        over[0] = True
        await gatherResults(asking)
        self.assertLessEqual(len(failed), 4)
        self.assertEqual(lines, ["database lost", "database back"])

    async def test_crash(self) -> None:
        """So does a crash."""
        pool = await started(self, self.dsn, size=2)
        self.cluster.kill()
        self.cluster.start()
        await self.notice_loss(pool)
        self.assertEqual(await pool.fetch("SELECT 1"), [(1,)])

    async def test_gone(self) -> None:
        """While PostgreSQL is away, requests wait for it and then say that nothing was done; the log tells it once."""
        pool = await started(self, self.dsn, timeout=0.5)
        lines = self.listen_to_log()
        self.cluster.stop()
        await self.notice_loss(pool)
        failure = await self.assertFailure(run(pool.fetch("SELECT 1")), StorageError)
        self.assertIs(failure.applied, False)
        self.assertFalse(pool.ready)
        self.assertEqual(lines, ["database lost"])

    async def test_frozen(self) -> None:
        """A frozen server keeps nobody waiting longer than the time limit, and is used again once it moves."""
        pool = await started(self, self.dsn, timeout=0.5)
        await pool.fetch("SELECT 1")
        self.cluster.pause()
        running = run(pool.fetch("SELECT 1"))
        waiting = run(pool.fetch("SELECT 1"))
        self.assertIsNone((await self.assertFailure(running, StorageError)).applied)
        self.assertIs((await self.assertFailure(waiting, StorageError)).applied, False)
        self.assertFalse(pool.ready)
        self.cluster.resume()
        while not pool.ready:
            await DeferredList([run(pool.fetch("SELECT 1"))], consumeErrors=True)
        self.assertEqual(await pool.fetch("SELECT 1"), [(1,)])

    async def test_frozen_in_a_transaction(self) -> None:
        """A transaction on a server that froze says that nothing of it stayed, and poisons nothing."""
        pool = await started(self, self.dsn, timeout=0.5)

        async def work(transaction: Transaction) -> None:
            await transaction.fetch("CREATE TABLE t (n integer)")
            self.cluster.pause()
            await transaction.fetch("SELECT 1")

        failure = await self.assertFailure(run(pool.transaction(work)), StorageError)
        self.assertIs(failure.applied, False)
        self.cluster.resume()
        while not pool.ready:
            await DeferredList([run(pool.fetch("SELECT 1"))], consumeErrors=True)
        self.assertEqual(await pool.fetch("SELECT to_regclass('t')"), [(None,)])

    async def test_close_while_gone(self) -> None:
        """A daemon can stop while its database is away."""
        pool = await started(self, self.dsn)
        self.cluster.stop()
        await self.notice_loss(pool)
        waiting = run(pool.fetch("SELECT 1"))
        closed = run(pool.close())
        await self.assertFailure(waiting, StorageError)
        await closed
