"""One round of scripts/crash-real: a new vault on a new disk, writers at work, a crash, and what is there afterwards."""

import contextlib
import os
import random
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from databases import Cluster
from disks import RECORDING_DISK, Directory, open_disk, run, sync_directory, wait
from histories import Records
from mounts import Unusable, open_system
from workbench import WORKLOADS
from workloads import sync_file_systems


@dataclass(frozen=True)
class Job:
    system: str
    column: str
    workload: str
    seed: int
    lie: bool = False

    def __str__(self):
        return f"{self.system} {self.column} {self.workload} seed {self.seed}"

    def again(self):
        lie = " --lie" if self.lie else ""
        choice = f"--systems {self.system} --columns {self.column} --workloads {self.workload}"
        return f"scripts/crash-real {choice} --rounds 1 --seed {self.seed}{lie}"


@dataclass
class Result:
    job: Job
    # What of the data was harmed; empty if all is as promised.
    harms: list = field(default_factory=list)
    # Why nothing can be said.
    broken: str = ""
    # Syncs that had been acknowledged, and what the disk did.
    acknowledged: int = 0
    outcome: str = ""
    # What the daemon said when it was mounted again.
    recovered: str = ""
    kept: str = ""


class Round:
    def __init__(self, job, home, arguments, patterns, workbench):
        self.job = job
        self.home = Path(home)
        self.seconds = arguments.seconds
        self.keep = arguments.keep
        self.patterns = patterns
        self.workbench = workbench
        self.dice = random.Random(f"{job.seed} {job.column} {job.workload}")
        self.workload = WORKLOADS[job.workload]
        self.disk = open_disk(job.column, self.home, RECORDING_DISK, job.lie)
        # Where only the daemon dies, half of the rounds leave nothing to the kernel's cache: then every write counts.
        cached = job.column == "kill" and job.system.startswith("wardfs")
        self.on_write = job.column == "kill" and not (cached and job.seed % 2)
        options = ["nowriteback"] if cached and self.on_write else []
        options += ["allow_other"] if self.workload is WORKLOADS["postgres"] and job.system != "plain" else []
        self.system = open_system(job.system, self.home / "system", options)
        self.system.lie_in(self.disk.root)
        self.hands = []
        self.server = None
        self.result = Result(job)

    def play(self):
        """Returns the result. Leaves nothing behind."""
        try:
            self.set_up()
            self.work()
            self.crash()
            if not self.result.harms:
                self.look()
        except Exception as reason:
            # Whatever it is, it is one round of many.
            self.result.broken = self.result.broken or f"{type(reason).__name__}: {reason}"
        finally:
            self.clean_up()
        return self.result

    def set_up(self):
        self.home.mkdir(parents=True)
        postgres = self.job.workload == "postgres"
        self.disk.create(self.patterns.disk(self.job.system, self.job.column) if postgres else None)
        self.system.make_places()
        if not postgres:
            # The directory is there; that what init makes in it is too is for init to see to.
            sync_file_systems(self.disk.root)
            self.system.init()
            if not self.workload.fresh:
                sync_file_systems(self.disk.root)
        self.system.mount()
        if postgres:
            self.server = self.cluster()
            self.server.start()

    def cluster(self):
        return Cluster.at(self.system.root, self.log(0))

    def log(self, hand):
        return self.home / f"log{hand}"

    def work(self):
        for hand in range(self.workload.hands):
            self.log(hand).touch()
            acknowledged = "write" if self.on_write else "sync"
            place = str(self.system.root), str(self.log(hand))
            self.hands.append(self.workbench.hire(self.home / f"errors{hand}", self.job.workload, *place, self.job.seed, hand, acknowledged))
        if not self.workload.fresh:
            for number, hand in enumerate(self.hands):
                try:
                    hand.wait_ready()
                except Unusable as reason:
                    raise Unusable(f"{reason}: {self.errors(number)}") from None
        if self.job.lie:
            time.sleep(0.1)
            self.disk.snapshot()
        time.sleep(self.dice.uniform(0.3 if self.job.lie else 0.02, self.seconds))

    def errors(self, number):
        return (self.home / f"errors{number}").read_text(errors="replace").strip()[-300:]

    def crash(self):
        early = [self.errors(number) for number, hand in enumerate(self.hands) if not hand.works()]
        if isinstance(self.disk, Directory):
            self.until = time.monotonic_ns()
            self.system.die()
        else:
            self.until = self.disk.cut(self.dice)
        self.result.outcome = self.disk.outcome
        self.stop_writing()
        self.system.die()
        self.disk.unmount()
        if self.keep:
            self.keep_state()
        if early:
            self.result.harms.append(f"a writer failed before the crash: {early[0]}")
        try:
            if self.job.lie and self.lies_by_going_back():
                self.disk.go_back()
            else:
                self.disk.restart()
        except Unusable as reason:
            if not self.job.lie:
                raise
            # A disk that lies can damage the filesystem on it, too.
            self.result.harms.append(f"the disk: {reason}")

    def lies_by_going_back(self):
        return not getattr(self.disk, "lie", False)

    def stop_writing(self):
        for hand in self.hands:
            hand.kill()
        if self.server:
            self.server.kill()
            self.server = None
        # A writer that waits for a filesystem that hangs can only end when that does.
        self.system.abort()
        while self.hands:
            self.hands.pop().end()
        # What a writer was at when the mount went away it may have done in the directory below.
        self.system.tidy()

    def look(self):
        logs = [Records(self.log(hand), self.until) for hand in range(self.workload.hands)]
        self.result.acknowledged = sum(log.acknowledged for log in logs)
        try:
            self.system.mount()
        except Unusable as reason:
            # Another system's vault that had not acknowledged anything has lost nothing.
            if self.result.acknowledged or self.job.system.startswith("wardfs"):
                self.result.harms.append(f"cannot be mounted: {reason}")
            return
        self.result.recovered = self.system.said().strip()
        if self.job.workload == "postgres":
            self.look_at_server(logs)
        else:
            self.look_at_files(logs)
        if self.job.system.startswith("wardfs"):
            self.use()
        self.system.unmount()
        if self.job.system.startswith("wardfs") and (damage := self.system.damage()):
            self.result.harms.append(f"wardfs check: {damage[:300]}")

    def compare(self, logs):
        root = str(self.system.root)
        return [wrong for hand, log in enumerate(logs) for wrong in self.workload.verify(root, log, self.job.seed, hand)]

    def look_at_files(self, logs):
        self.result.harms += self.compare(logs)
        if self.job.system.startswith("wardfs"):
            self.result.harms += unreadable(self.system.root)

    def look_at_server(self, logs):
        server = self.server = self.cluster()
        try:
            server.start()
            self.result.harms += self.compare(logs)
            self.result.harms += server.wrong()
            server.stop()
            self.server = None
            server.run("pg_checksums", "--check")
        except (Unusable, OSError, ValueError) as reason:
            self.result.harms.append(f"PostgreSQL: {reason}")
            server.kill()
            self.server = None

    def use(self):
        """What was recovered can be written to."""
        path = self.system.root / "after the crash"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(descriptor, b"written")
            os.fsync(descriptor)
            os.close(descriptor)
            os.unlink(path)
        except OSError as error:
            self.result.harms.append(f"cannot be written to afterwards: {error.strerror}")

    def keep_state(self):
        """What the crash left, before anything looks at it."""
        kept = self.home / "kept"
        kept.mkdir()
        if isinstance(self.disk, Directory):
            run("cp", "-a", self.disk.root, kept / "disk")
        else:
            run("cp", "--sparse=always", self.disk.image, kept / "image")

    def clean_up(self):
        with contextlib.suppress(Exception):
            self.stop_writing()
        with contextlib.suppress(Exception):
            self.system.die()
        if self.keep and self.result.harms and (self.home / "kept").exists():
            self.hand_over()
        try:
            self.disk.unmount()
            wait("nothing mounted", lambda: not os.path.ismount(self.disk.root))
            shutil.rmtree(self.home, ignore_errors=True)
        except (Unusable, OSError) as reason:
            self.result.broken = self.result.broken or f"cleaning up: {reason}"

    def hand_over(self):
        """The image, the logs of the writers and of the daemon, and what is wrong, for who wants to look."""
        target = Path(self.keep) / str(self.job).replace(" ", "-").replace("/", "_")
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.home / "kept", target)
        for name in [*self.home.glob("log*"), *self.home.glob("errors*"), self.home / "system/log", self.home / "system/passphrase"]:
            if name.exists():
                shutil.copy(name, target / f"{name.parent.name}-{name.name}")
        (target / "README").write_text("\n".join([str(self.job), self.result.outcome, self.job.again(), *self.result.harms, self.result.recovered, ""]))
        self.result.kept = str(target)


def unreadable(root):
    """Whatever is there can be read, synced or not."""
    wrong = []
    for directory, _, names in os.walk(root, onerror=lambda error: wrong.append(f"a directory cannot be listed ({error.strerror})")):
        for name in names:
            try:
                with open(os.path.join(directory, name), "rb") as file:
                    while file.read(1 << 20):
                        pass
            except OSError as error:
                wrong.append(f"{name[:60]} cannot be read ({error.strerror}), synced or not")
    return wrong
