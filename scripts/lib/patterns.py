"""What a round of scripts/crash-real begins with and is dear to make: disks with a database cluster in a vault.

One for each system and filesystem, made once, unmounted in order; every round works on a copy.
"""

import os
import shutil
import threading
from pathlib import Path

from databases import Cluster, Postgres
from disks import open_disk, run
from mounts import open_system
from workloads import sync_file_systems


class Patterns:
    """For all threads of a process."""

    def __init__(self, home):
        self.home = Path(home)
        self.lock = threading.Lock()
        self.cluster = None
        self.disks = {}

    def disk(self, spec, column):
        """A disk as it was left: `Disk.create` copies it."""
        filesystem = column.partition("-")[0]
        with self.lock:
            if (spec, filesystem) not in self.disks:
                self.cluster = self.cluster or self.make_cluster()
                self.disks[spec, filesystem] = self.make_disk(spec, filesystem, self.home / f"disk{len(self.disks)}")
            return self.disks[spec, filesystem]

    def make_cluster(self):
        self.home.mkdir(parents=True)
        shutil.chown(self.home, "postgres", "postgres")
        cluster = Cluster(self.home / "data", self.home / "sockets")
        cluster.sockets.mkdir()
        cluster.run("initdb", "-A", "trust", "-k", "-N", "--no-locale", "-E", "UTF8", "--wal-segsize=1")
        cluster.start()
        try:
            cluster.ask(
                "CREATE EXTENSION amcheck; CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL, filler char(80));"
                f" INSERT INTO account SELECT id, 0, '' FROM generate_series(1, {Postgres.accounts}) id;"
                " CREATE TABLE history (client int, number int, account int, amount bigint, filler text, PRIMARY KEY (client, number));"
                " CREATE INDEX ON history (account);"
            )
        finally:
            cluster.stop()
        return cluster

    def make_disk(self, spec, filesystem, home):
        """All of it has reached the disk."""
        disk = open_disk(filesystem, home)
        system = open_system(spec, home / "system")
        system.lie_in(disk.root)
        try:
            disk.create()
            system.create()
            system.mount()
            os.chmod(system.root, 0o755)
            run("cp", "-a", self.cluster.data, Cluster.at(system.root, home).data)
            system.unmount()
            sync_file_systems(disk.root)
        finally:
            system.die()
            disk.unmount()
        return disk
