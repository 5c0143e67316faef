"""Databases as writers: each transaction that was acknowledged is there after the crash, and nothing half."""

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

from disks import Unusable, wait
from writers import Workload


def commits(log):
    """(last transaction that was acknowledged, last that was begun)"""
    numbers = {"committed": 0, "commit": 0}
    for what, *rest in log:
        if what in numbers:
            numbers[what] = rest[0]
    return numbers["committed"], numbers["commit"]


class Sqlite(Workload):
    journal = None
    synchronous = None
    rows = 60

    def connect(self):
        return open_database(self.path(self.name("database")), self.journal, self.synchronous)

    def begin(self):
        self.database = self.connect()
        self.database.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, content BLOB)")
        self.database.execute("CREATE TABLE state (number INTEGER)")
        self.database.execute("INSERT INTO state VALUES (0)")
        self.transactions = 0

    def turn(self):
        self.transactions += 1
        number = self.transactions
        self.log.put("commit", number)
        self.database.execute("BEGIN")
        for row, value in transaction(f"{self.seed} {self.hand}", number, self.rows):
            self.database.execute("INSERT OR REPLACE INTO row VALUES (?, ?)", (row, value))
        self.database.execute("UPDATE state SET number = ?", (number,))
        self.database.execute("COMMIT")
        self.log.put("committed", number)

    @classmethod
    def verify(cls, root, log, seed, hand):
        wrong = super().verify(root, log, seed, hand)
        done, begun = commits(log)
        path = f"{root}/database{hand}"
        if not os.path.exists(path):
            return [*wrong, f"database{hand} is gone"]
        try:
            with contextlib.closing(open_database(path, cls.journal, cls.synchronous)) as database:
                return wrong + cls.compare(database, f"database{hand}", f"{seed} {hand}", done, begun)
        except sqlite3.Error as error:
            return [*wrong, f"database{hand}: {error}"]

    @classmethod
    def compare(cls, database, name, seed, done, begun):
        wrong = []
        (state,) = database.execute("SELECT number FROM state").fetchone()
        if not done <= state <= begun:
            wrong.append(f"{name} is at transaction {state}; {done} was acknowledged, {begun} begun")
        expected = {}
        for number in range(1, state + 1):
            expected.update(transaction(seed, number, cls.rows))
        if dict(database.execute("SELECT id, content FROM row")) != expected:
            wrong.append(f"{name} does not hold what its {state} transactions wrote")
        (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
        if integrity != "ok":
            wrong.append(f"{name}: integrity_check: {integrity}")
        return wrong


class SqliteWal(Sqlite):
    """SQLite with a write-ahead log, PRAGMA synchronous=FULL"""

    journal, synchronous = "WAL", "FULL"


class SqliteDelete(Sqlite):
    """SQLite with a rollback journal, PRAGMA synchronous=EXTRA (FULL may roll back the last commit by design)"""

    # FULL does not sync the directory after it has removed the journal: https://sqlite.org/pragma.html#pragma_synchronous
    journal, synchronous = "DELETE", "EXTRA"


def open_database(path, journal, synchronous):
    database = sqlite3.connect(path, isolation_level=None, timeout=20)
    try:
        database.execute(f"PRAGMA journal_mode={journal}")
        database.execute(f"PRAGMA synchronous={synchronous}")
        # Often, so that pages are overwritten in place within a second.
        database.execute("PRAGMA wal_autocheckpoint=30")
    except sqlite3.Error:
        # One that is damaged would keep the mount busy.
        database.close()
        raise
    return database


def transaction(seed, number, rows):
    """What a transaction writes: always the same for the same number."""
    dice = random.Random(f"{seed} {number}")
    return [(dice.randrange(rows), dice.randbytes(dice.choice((10, 100, 2000)))) for _ in range(dice.randrange(1, 5))]


class Postgres(Workload):
    """PostgreSQL, full_page_writes and data checksums on, clients that move money between accounts"""

    hands = 3
    accounts = 2000

    def prepare(self):
        self.client = Cluster.at(self.root, self.log.path).client(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.transactions = 0
        self.say("SELECT 1;")

    def say(self, statements):
        self.client.stdin.write(f"{statements}\n\\echo done\n".encode())
        self.client.stdin.flush()
        for line in self.client.stdout:
            if line == b"done\n":
                return
        raise Unusable("the server has closed the connection")

    def turn(self):
        self.transactions += 1
        account, amount = self.dice.randrange(1, self.accounts + 1), self.dice.randrange(-5000, 5000)
        self.log.put("commit", self.transactions)
        self.say(
            f"BEGIN; UPDATE account SET balance = balance + {amount} WHERE id = {account};"
            f" INSERT INTO history VALUES ({self.hand}, {self.transactions}, {account}, {amount}, repeat('x', 60)); COMMIT;"
        )
        self.log.put("committed", self.transactions)
        if self.hand == 0 and self.transactions % 60 == 0:
            self.say("CHECKPOINT;")

    @classmethod
    def verify(cls, root, log, seed, hand):
        done, begun = commits(log)
        count, highest = Cluster.at(root, log.path).ask(f"SELECT count(*), coalesce(max(number), 0) FROM history WHERE client = {hand}").split("|")
        if count != highest or not done <= int(count) <= begun:
            return [f"client {hand}: {count} transactions, the last {highest}; {done} were acknowledged, {begun} begun"]
        return []


class Cluster:
    """A data directory on the mount, its server, and where it listens: in a directory outside, and nowhere else."""

    def __init__(self, data, sockets):
        self.data = Path(data)
        self.sockets = Path(sockets)
        self.process = None

    @classmethod
    def at(cls, root, log):
        """The cluster of a mount; its socket lies beside the log."""
        return cls(Path(root) / "postgres", Path(log).parent / "sockets")

    @staticmethod
    def programs():
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0))
        if not found:
            raise Unusable("PostgreSQL is not installed (apt-get install postgresql)")
        return found[-1].parent

    def command(self, program, *arguments):
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        return [*user, self.programs() / program, *arguments]

    def environment(self):
        place = {"PGHOST": str(self.sockets), "PGDATA": str(self.data), "PGUSER": "postgres", "PGDATABASE": "postgres"}
        return {**os.environ, **place, "LC_ALL": "C"}

    def run(self, program, *arguments, seconds=180):
        command = self.command(program, *arguments)
        try:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds,
                                    env=self.environment(), cwd=self.sockets)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unusable(f"{program} did not end within {seconds} s") from None
        if result.returncode:
            raise Unusable(f"{program}: {(result.stderr or result.stdout).strip()[-600:]}")
        return result.stdout.strip()

    def ask(self, question):
        return self.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", question)

    def client(self, **pipes):
        command = self.command("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
        return subprocess.Popen(command, env=self.environment(), cwd=self.sockets, stderr=subprocess.DEVNULL, **pipes)

    def start(self):
        self.sockets.mkdir(exist_ok=True)
        shutil.chown(self.sockets, "postgres", "postgres")
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.sockets,
            "shared_buffers": "8MB",
            "full_page_writes": "on",
            "fsync": "on",
            "synchronous_commit": "on",
            "max_connections": "10",
            "autovacuum": "off",
            "dynamic_shared_memory_type": "sysv",
            "min_wal_size": "4MB",
            "max_wal_size": "8MB",
            "logging_collector": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.log = open(self.sockets / "log", "ab")
        self.process = subprocess.Popen(self.command("postgres", *options), env=self.environment(), cwd=self.sockets,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)  # fmt: skip
        wait("PostgreSQL", lambda: self.process.poll() is not None or self.answers(), 180)
        if self.process.poll() is not None:
            raise Unusable(f"PostgreSQL does not start: {self.said()}")

    def said(self):
        lines = (self.sockets / "log").read_text(errors="replace").splitlines()
        return " / ".join([line for line in lines if "FATAL" in line or "PANIC" in line][-2:] or lines[-2:])

    def answers(self):
        """The last line is what pg_ctl goes by, too."""
        with contextlib.suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text(errors="replace").splitlines()
            return lines[:1] == [str(self.process.pid)] and lines[7:] == ["ready   "]
        return False

    def stop(self):
        """In order."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Unusable("PostgreSQL does not stop") from None
            finally:
                self.log.close()
            self.process = None

    def kill(self):
        if not self.process:
            return
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        for pid in [self.process.pid, *pids]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        wait("the end of PostgreSQL", lambda: not any(Path(f"/proc/{pid}/fd").exists() and alive(pid) for pid in pids))
        self.process = None

    def wrong(self):
        """What is not whole, apart from transactions that are missing."""
        found = []
        difference = self.ask("SELECT (SELECT coalesce(sum(balance), 0) FROM account) - (SELECT coalesce(sum(amount), 0) FROM history)")
        if difference != "0":
            found.append(f"the accounts differ from the history by {difference}")
        self.ask("SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
                 " JOIN pg_am ON pg_am.oid = relam WHERE amname = 'btree' AND relpersistence = 'p'")  # fmt: skip
        found += self.ask("SELECT h.* FROM pg_class, verify_heapam(oid) h WHERE relname IN ('account', 'history')").splitlines()
        return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
