"""The workloads of scripts/bench. Each group runs on a fresh vault and takes several measurements.

Only what stands inside `with trial.clock(...)` is measured. Contents are checked after the clock has stopped. The loops
are Python; an operation costs them one to two microseconds, on every system the same, where a request through FUSE
costs fifty.
"""

import contextlib
import ctypes
import io
import os
import random
import sqlite3
import subprocess
import tarfile
import time

KIB, MIB = 1 << 10, 1 << 20
CHUNK = MIB
PAGE = 4 * KIB

# Any length up to 1 MiB can be cut from it at a million places, so that misplaced data is noticed.
POOL = memoryview(random.Random(1).randbytes(2 * MIB))


class Wrong(Exception):
    """What was read is not what was written."""


def cut(number, length):
    """`length` bytes (at most 1 MiB) that belong to `number`."""
    start = number * 4099 % MIB
    return POOL[start : start + length]


def check(condition, what):
    if not condition:
        raise Wrong(what)


def sync_file_systems(*paths):
    libc = ctypes.CDLL(None, use_errno=True)
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        failed = libc.syncfs(descriptor)
        os.close(descriptor)
        if failed:
            raise OSError(ctypes.get_errno(), f"syncfs {path}")


class Trial:
    """One system, one group, one round."""

    def __init__(self, system, factor, drop_caches):
        self.system = system
        self.root = str(system.root)
        self.factor = factor
        self.drop_caches = drop_caches
        self.results = {}

    def count(self, number):
        """A number of operations or files, scaled by --size-factor."""
        return max(8, round(number * self.factor))

    def cold(self):
        """Nothing of the files is in memory any more, neither here nor in the daemon."""
        self.system.unmount()
        os.sync()
        self.drop_caches()
        self.system.mount()

    @contextlib.contextmanager
    def clock(self, name, amount):
        os.sync()
        self.system.reset_peak()
        cpu = self.system.cpu_seconds()
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.results[name] = {"amount": amount, "seconds": seconds, "rate": amount / seconds}
        if cpu is not None:
            self.results[name] |= {"cpu": self.system.cpu_seconds() - cpu, "rss": self.system.peak_bytes()}

    def sync(self):
        """The mount, and what the daemon has written into the vault."""
        sync_file_systems(self.root, self.system.backing())


class Crew:
    """Processes that start together: what they prepare and check is outside the clock."""

    def __init__(self, count, work):
        self.start, self.done, self.pids = os.pipe(), os.pipe(), []
        for number in range(count):
            pid = os.fork()
            if pid == 0:
                self.child(work(number))
            self.pids.append(pid)
        os.close(self.start[0])
        os.close(self.done[1])

    def child(self, steps):
        """`steps` prepares up to its first yield, works up to its second and then checks."""
        status = 1
        try:
            os.close(self.start[1])
            next(steps)
            os.read(self.start[0], 1)
            next(steps)
            os.write(self.done[1], b"x")
            next(steps, None)
            status = 0
        finally:
            os._exit(status)

    def work(self):
        os.close(self.start[1])
        for _ in self.pids:
            os.read(self.done[0], 1)

    def finish(self):
        os.close(self.done[0])
        results = [os.waitpid(pid, 0)[1] for pid in self.pids]
        check(not any(results), "a process of several failed")


def write_file(path, size, first, sync):
    """What is there already is overwritten, not cut off first."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    for number in range(size // CHUNK):
        os.write(descriptor, cut(first + number, CHUNK))
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)


def read_through(path):
    buffer = bytearray(CHUNK)
    descriptor = os.open(path, os.O_RDONLY)
    total = 0
    while got := os.readv(descriptor, [buffer]):
        total += got
    os.close(descriptor)
    return total


def verify_file(path, size, first, changed=()):
    """`changed`: {offset: what stands there now}, none across a MiB."""
    changes = {}
    for offset, data in dict(changed).items():
        changes.setdefault(offset // CHUNK, []).append((offset % CHUNK, data))
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(CHUNK)
        for number in range(size // CHUNK):
            check(file.readinto(buffer) == CHUNK, f"{path} ends early")
            expected = bytearray(cut(first + number, CHUNK))
            for offset, data in changes.get(number, ()):
                expected[offset : offset + len(data)] = data
            check(buffer == expected, f"{path} differs near {number} MiB")
        check(file.read(1) == b"", f"{path} is too long")


def one_file(trial):
    """A large file: a scan volume, a disk image, a database."""
    path, size = f"{trial.root}/file", trial.count(1024) * MIB
    with trial.clock("write", size / MIB):
        write_file(path, size, 0, sync=True)
    trial.cold()
    with trial.clock("read-cold", size / MIB):
        read_through(path)
    with trial.clock("read-warm", size / MIB):
        read_through(path)
    verify_file(path, size, 0)
    for jobs, reads in ((1, 16000), (4, 32000)):
        random_read(trial, path, size, jobs, trial.count(reads))


def random_read(trial, path, size, jobs, reads):
    pages = random.Random(jobs).sample(range(size // PAGE), min(reads, size // PAGE))

    def job(number):
        mine = pages[number::jobs]
        got = memoryview(bytearray(len(mine) * PAGE))
        got[:: 4 * KIB] = bytes(len(mine))
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        yield
        for slot, page in enumerate(mine):
            os.preadv(descriptor, [got[slot * PAGE : (slot + 1) * PAGE]], page * PAGE)
        yield
        for slot, page in enumerate(mine):
            inside = page * PAGE % CHUNK
            expected = cut(page * PAGE // CHUNK, CHUNK)[inside : inside + PAGE]
            check(bytes(got[slot * PAGE : (slot + 1) * PAGE]) == bytes(expected), f"page {page}")

    trial.cold()
    crew = Crew(jobs, job)
    with trial.clock(f"random-read-{jobs}", len(pages)):
        crew.work()
    crew.finish()


def overwrites(trial):
    """What replaces data that was synced: a journal makes it dearer, and safe."""
    path, size = f"{trial.root}/file", trial.count(512) * MIB
    write_file(path, size, 0, sync=True)
    trial.cold()
    with trial.clock("rewrite", size / MIB):
        write_file(path, size, 5000, sync=True)
    changed = {}
    for kib in (4, 8):
        for writes, name, sync_each in ((128 * KIB // kib, "", False), (4000, "-sync", True)):
            changed |= random_write(trial, f"random-write-{kib}k{name}", path, kib * KIB, trial.count(writes), sync_each)
    trial.cold()
    verify_file(path, size, 5000, changed)


def random_write(trial, name, path, length, writes, sync_each):
    """Returns what `verify_file` has to find changed, page by page: later writes replace earlier ones."""
    size = os.stat(path).st_size
    places = random.Random(name).sample(range(size // length), min(writes, size // length))
    trial.cold()
    descriptor = os.open(path, os.O_RDWR)
    with trial.clock(name, len(places)):
        for number, place in enumerate(places):
            os.pwrite(descriptor, cut(number, length), place * length)
            if sync_each:
                os.fdatasync(descriptor)
        os.fsync(descriptor)
    os.close(descriptor)
    pages = range(0, length, PAGE)
    return {place * length + page: cut(number, length)[page : page + PAGE] for number, place in enumerate(places) for page in pages}


def files_in_directories(root, count, per_directory):
    return [f"{root}/{number // per_directory:03}/{number:05}.dcm" for number in range(count)]


def create_files(paths, size):
    made = None
    for number, path in enumerate(paths):
        directory = os.path.dirname(path)
        if directory != made:
            os.mkdir(directory)
            made = directory
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, cut(number, size))
        os.close(descriptor)


def read_files(paths, buffer):
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.readv(descriptor, [buffer])
        os.close(descriptor)


def verify_files(paths, size):
    for number, path in enumerate(paths):
        with open(path, "rb") as file:
            check(file.read() == cut(number, size), path)


def scans(trial):
    """A series of images."""
    count, size = trial.count(1000), 512 * KIB
    paths = files_in_directories(trial.root, count, 100)
    with trial.clock("scans-write", count * size / MIB):
        create_files(paths, size)
        trial.sync()
    trial.cold()
    with trial.clock("scans-read", count * size / MIB):
        read_files(paths, bytearray(size))
    verify_files(paths, size)


def small_files(trial):
    count, size = trial.count(5000), 4 * KIB
    paths = files_in_directories(trial.root, count, 200)
    with trial.clock("small-create", count):
        create_files(paths, size)
    trial.cold()
    with trial.clock("small-stat", count):
        seen = stat_walk(trial.root)
    check(seen == (count, count * size), f"the walk found {seen}")
    trial.cold()
    with trial.clock("small-read", count):
        read_files(paths, bytearray(size))
    verify_files(paths, size)
    with trial.clock("small-remove", count):
        for path in paths:
            os.unlink(path)
        for directory in os.listdir(trial.root):
            os.rmdir(f"{trial.root}/{directory}")
    check(os.listdir(trial.root) == [], "something is left")


def stat_walk(directory):
    files = total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below = stat_walk(entry.path)
                files, total = files + below[0], total + below[1]
            else:
                files, total = files + 1, total + entry.stat(follow_symlinks=False).st_size
    return files, total


def source_tree(count):
    """{path: content} of something like a source tree, always the same."""
    choice = random.Random(3)
    words = [f"{choice.getrandbits(24):x}" for _ in range(4000)]
    tree = {}
    for number in range(count):
        directory = "/".join(f"{choice.choice('abcdef')}{level}" for level in range(choice.randrange(1, 5)))
        length = min(200_000, int(choice.lognormvariate(8.3, 1.1)))
        text = " ".join(choice.choices(words, k=length // 7 + 1))
        if number % 50 == 0:
            text += " needle "
        tree[f"src/{directory}/file{number}.c"] = text.encode()
    return tree


def tree(trial):
    """tar and grep, the programs themselves."""
    content = source_tree(trial.count(2500))
    archive = trial.system.home.parent / "tree.tar"
    with tarfile.open(archive, "w") as tar:
        for path, data in content.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(data), 0o644, 1_700_000_000
            entry.uid, entry.gid = os.getuid(), os.getgid()
            tar.addfile(entry, io.BytesIO(data))
    read_through(archive)
    with trial.clock("untar", len(content)):
        tar = subprocess.run(["tar", "-xf", archive, "-C", trial.root], capture_output=True, text=True)
    check(tar.returncode == 0, tar.stderr.partition("\n")[0])
    archive.unlink()
    trial.cold()
    with trial.clock("grep", len(content)):
        found = subprocess.run(["grep", "-r", "-l", "needle", trial.root], capture_output=True, text=True)
    check(len(found.stdout.splitlines()) == sum(b"needle" in data for data in content.values()), "grep missed something")
    for path, data in content.items():
        with open(f"{trial.root}/{path}", "rb") as file:
            check(file.read() == data, path)


def sqlite(trial):
    """One commit per row, every commit durable."""
    rows = trial.count(3000)
    path = f"{trial.root}/database"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE patient (id INTEGER PRIMARY KEY, name TEXT)")
        with trial.clock("sqlite", rows):
            for number in range(rows):
                database.execute("INSERT INTO patient VALUES (?, ?)", (number, f"name {number:080}"))
    trial.cold()
    with contextlib.closing(sqlite3.connect(path)) as database:
        check(database.execute("PRAGMA integrity_check").fetchone() == ("ok",), "integrity_check")
        stored = [f"name {number:080}" for number in range(rows)]
        check([name for (name,) in database.execute("SELECT name FROM patient ORDER BY id")] == stored, "a row")


def append(trial):
    """A log that must not lose a line."""
    lines = trial.count(3000)
    path = f"{trial.root}/log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with trial.clock("append-sync", lines):
        for number in range(lines):
            os.write(descriptor, cut(number, 200))
            os.fdatasync(descriptor)
    os.close(descriptor)
    trial.cold()
    with open(path, "rb") as file:
        check(file.read() == b"".join(cut(number, 200) for number in range(lines)), "the log")


def writers(trial):
    """Four machines sending at once."""
    size = trial.count(256) * MIB

    def writer(number):
        yield
        write_file(f"{trial.root}/writer{number}", size, number * 1000, sync=True)
        yield

    crew = Crew(4, writer)
    with trial.clock("writers-4", 4 * size / MIB):
        crew.work()
    crew.finish()
    trial.cold()
    for number in range(4):
        verify_file(f"{trial.root}/writer{number}", size, number * 1000)


def metadata(trial):
    turns = trial.count(1500)
    with trial.clock("metadata-mix", turns * 6):
        for number in range(turns):
            directory = f"{trial.root}/{number}"
            os.mkdir(directory)
            os.close(os.open(f"{directory}/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            os.rename(f"{directory}/new", f"{directory}/name")
            os.stat(f"{directory}/name")
            os.unlink(f"{directory}/name")
            os.rmdir(directory)
    check(os.listdir(trial.root) == [], "something is left")


# Group, and what it measures: {measurement: (unit, what it is)}.
GROUPS = [
    (one_file, {
        "write": ("MiB/s", "sequential write of 1 GiB, fsync"),
        "read-cold": ("MiB/s", "the same read, nothing cached"),
        "read-warm": ("MiB/s", "the same read again"),
        "random-read-1": ("/s", "random 4 KiB reads, nothing cached"),
        "random-read-4": ("/s", "the same by 4 processes"),
    }),
    (overwrites, {
        "rewrite": ("MiB/s", "a file of 512 MiB overwritten from beginning to end, fsync"),
        "random-write-4k": ("/s", "random 4 KiB overwrites in it, one fsync at the end"),
        "random-write-4k-sync": ("/s", "the same, fdatasync after each"),
        "random-write-8k": ("/s", "random 8 KiB overwrites, one fsync at the end"),
        "random-write-8k-sync": ("/s", "the same, fdatasync after each"),
    }),
    (scans, {
        "scans-write": ("MiB/s", "1,000 files of 512 KiB written, syncfs"),
        "scans-read": ("MiB/s", "the same read, nothing cached"),
    }),
    (small_files, {
        "small-create": ("files/s", "5,000 files of 4 KiB created"),
        "small-stat": ("files/s", "the same listed with stat, nothing cached"),
        "small-read": ("files/s", "the same read, nothing cached"),
        "small-remove": ("files/s", "the same removed"),
    }),
    (tree, {
        "untar": ("files/s", "a source tree of 2,500 files unpacked"),
        "grep": ("files/s", "grep -r through it, nothing cached"),
    }),
    (sqlite, {"sqlite": ("/s", "SQLite commits of one row, WAL, synchronous=FULL")}),
    (append, {"append-sync": ("/s", "200 bytes appended, fdatasync after each")}),
    (writers, {"writers-4": ("MiB/s", "4 processes writing 256 MiB each, fsync")}),
    (metadata, {"metadata-mix": ("/s", "mkdir, create, rename, stat, unlink, rmdir")}),
]  # fmt: skip
