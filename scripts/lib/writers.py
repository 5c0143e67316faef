"""The writers of scripts/crash-real: what they do until the crash, and what must be there after it.

These work on files; trees.py has directories, databases.py programs with a log of their own.
"""

import mmap
import os
import random

from disks import sync_directory
from histories import History, content, judge, read_file

KIB = 1 << 10


class Workload:
    """Two of a kind work side by side, each on files of its own. A subclass says what one turn is.

    `acknowledged` is "sync", or "write" where a call that has returned must already outlive the crash (only a daemon
    dies, and nothing was cached above it).
    """

    hands = 2
    # Whether the crash comes in the first moments of a new vault.
    fresh = False
    # Whether a server works, and not programs on files.
    server = None

    def __init__(self, root, log, seed, hand, acknowledged):
        self.root = str(root)
        self.log = log
        self.hand = hand
        self.on_write = acknowledged == "write"
        self.seed = seed
        self.dice = random.Random(f"{seed} {hand}")
        self.number = self.dice.getrandbits(32)

    def path(self, name):
        return f"{self.root}/{name}"

    def name(self, what):
        return f"{what}{self.hand}"

    def prepare(self):
        """Files that nobody touches again: neighbours."""
        for number in range(3):
            self.new_file(self.name(f"rest{number}-"), self.dice.randrange(1, 30 * KIB))
        self.begin()

    def begin(self):
        pass

    def turn(self):
        raise NotImplementedError

    def new_file(self, name, length):
        descriptor = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self.write(descriptor, name, 0, length)
        os.fsync(descriptor)
        sync_directory(self.root)
        self.log.put("synced", name)
        return descriptor

    def fresh_seed(self):
        self.number += 1
        return self.number

    def write(self, descriptor, name, offset, length):
        seed = self.fresh_seed()
        self.log.put("write", name, offset, length, seed)
        os.pwrite(descriptor, content(seed, length), offset)
        if self.on_write:
            self.log.put("synced", name)

    def truncate(self, descriptor, name, size):
        self.log.put("truncate", name, size)
        os.ftruncate(descriptor, size)
        if self.on_write:
            self.log.put("synced", name)

    def sync(self, descriptor, name, call=os.fdatasync):
        call(descriptor)
        self.log.put("synced", name)

    @staticmethod
    def histories(log):
        """{name: History} of all files. Steps that only a subclass knows are left to it."""
        files = {}
        for what, name, *rest in log:
            if what == "write":
                files.setdefault(name, History()).write(rest[0], content(rest[2], rest[1]))
            elif what == "zero":
                files[name].write(rest[0], bytes(rest[1]))
            elif what == "truncate":
                files[name].truncate(rest[0])
            elif what == "synced":
                files.setdefault(name, History()).sync()
        return files

    @classmethod
    def verify(cls, root, log, seed, hand):
        """What is wrong after the crash."""
        return [wrong for name, history in cls.histories(log).items() for wrong in judge(f"{root}/{name}", name, history)]


class Overwrite(Workload):
    """small overwrites in a file, fdatasync after a few"""

    size = 512 * KIB

    def begin(self):
        self.descriptor = self.new_file(self.name("data"), self.size)

    def turn(self):
        for _ in range(self.dice.choice((1, 1, 2, 5))):
            length = min(self.size, self.dice.choice((1, 16, 100, 512, 4096, 5000, 9000)))
            self.write(self.descriptor, self.name("data"), self.dice.randrange(self.size - length + 1), length)
        self.sync(self.descriptor, self.name("data"))


class Append(Workload):
    """a log that grows by lines, fdatasync after each"""

    def begin(self):
        self.descriptor = self.new_file(self.name("log"), 100)
        self.size = 100

    def turn(self):
        length = self.dice.randrange(10, 700)
        self.write(self.descriptor, self.name("log"), self.size, length)
        self.size += length
        self.sync(self.descriptor, self.name("log"))


class Truncate(Workload):
    """cut and extended and overwritten, fsync after some"""

    def begin(self):
        self.size = 200 * KIB
        self.descriptor = self.new_file(self.name("cut"), self.size)

    def turn(self):
        name = self.name("cut")
        match self.dice.randrange(4):
            case 0:
                self.size = self.dice.randrange(self.size + 1)
                self.truncate(self.descriptor, name, self.size)
            case 1:
                self.size = min(300 * KIB, self.size + self.dice.randrange(1, 40 * KIB))
                self.truncate(self.descriptor, name, self.size)
            case _:
                length = self.dice.choice((1, 300, 4096, 10000))
                offset = self.dice.randrange(self.size + 1)
                self.write(self.descriptor, name, offset, length)
                self.size = max(self.size, offset + length)
        if self.dice.random() < 0.6:
            self.sync(self.descriptor, name, os.fsync)


class Mapped(Workload):
    """a shared mapping, msync after a few stores"""

    size = 256 * KIB

    def begin(self):
        descriptor = self.new_file(self.name("map"), self.size)
        self.memory = mmap.mmap(descriptor, self.size)

    def turn(self):
        for _ in range(self.dice.choice((1, 2, 6))):
            length = self.dice.choice((1, 64, 700, 4096))
            offset = self.dice.randrange(self.size - length + 1)
            seed = self.fresh_seed()
            self.log.put("write", self.name("map"), offset, length, seed)
            self.memory[offset : offset + length] = content(seed, length)
        self.memory.flush()
        self.log.put("synced", self.name("map"))


class Reopen(Workload):
    """opened, overwritten, synced or not, and closed again, file after file"""

    files = 4
    size = 40 * KIB

    def begin(self):
        for number in range(self.files):
            os.close(self.new_file(self.name(f"open{number}-"), self.size))

    def turn(self):
        name = self.name(f"open{self.dice.randrange(self.files)}-")
        descriptor = os.open(self.path(name), self.dice.choice((os.O_RDWR, os.O_WRONLY)))
        length = self.dice.choice((1, 200, 4096, 6000))
        self.write(descriptor, name, self.dice.randrange(self.size - length + 1), length)
        if self.dice.random() < 0.3:
            # Another descriptor syncs what the first one wrote.
            os.close(descriptor)
            descriptor = os.open(self.path(name), os.O_RDWR)
        if self.dice.random() < 0.7:
            self.sync(descriptor, name)
        os.close(descriptor)


class Fresh(Workload):
    """new files and overwrites in the first moments after init"""

    fresh = True

    def prepare(self):
        self.files = []

    def turn(self):
        if not self.files or self.dice.random() < 0.3:
            name = self.name(f"new{len(self.files)}-")
            length = self.dice.choice((0, 1, 4000, 20000))
            os.close(self.new_file(name, length))
            self.files.append((name, max(length, 1)))
        name, size = self.dice.choice(self.files)
        descriptor = os.open(self.path(name), os.O_RDWR)
        self.write(descriptor, name, self.dice.randrange(size), self.dice.randrange(1, 3000))
        self.sync(descriptor, name)
        os.close(descriptor)


class Replace(Workload):
    """written under another name, fsync, renamed over the old file, fsync of the directory"""

    files = 5

    @staticmethod
    def version(name, number):
        return content(f"{name} {number}", random.Random(f"{number} {name}").randrange(1, 20000))

    def begin(self):
        self.versions = [0] * self.files
        for which in range(self.files):
            self.replace(which)

    def replace(self, which):
        name = self.name(f"file{which}-")
        self.versions[which] += 1
        self.log.put("replace", name, self.versions[which])
        temporary = self.path(f"{name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(descriptor, self.version(name, self.versions[which]))
        os.fsync(descriptor)
        os.close(descriptor)
        os.rename(temporary, self.path(name))
        if not self.on_write:
            sync_directory(self.root)
        self.log.put("replaced", name, self.versions[which])

    def turn(self):
        self.replace(self.dice.randrange(self.files))

    @classmethod
    def verify(cls, root, log, seed, hand):
        files = {}
        for what, name, *values in log:
            if what == "replace":
                files.setdefault(name, [0, 0])[1] = values[0]
            elif what == "replaced":
                files[name][0] = values[0]
        wrong = super().verify(root, log, seed, hand)
        for name, (replaced, begun) in files.items():
            found, error = read_file(f"{root}/{name}")
            allowed = [cls.version(name, number) for number in range(max(replaced, 1), begun + 1)]
            if error or (found is None and replaced) or (found is not None and found not in allowed):
                wrong.append(f"{name} {error or ('is gone' if found is None else cls.neither(name, found, replaced, begun))}")
        return wrong

    @classmethod
    def neither(cls, name, found, replaced, begun):
        for number in range(1, begun):
            if found == cls.version(name, number):
                return f"is version {number}; {replaced} was acknowledged, {begun} begun"
        return f"is no version: {len(found)} bytes, {found.count(0)} of them zero; {replaced} was acknowledged, {begun} begun"
