"""Writers that do everything to few files: what fsx does to one, and files that move while they are written."""

import ctypes
import errno
import mmap
import os

from disks import sync_directory
from histories import content, judge
from writers import KIB, Workload

FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
LIBC = ctypes.CDLL(None, use_errno=True)


def punch(descriptor, offset, length):
    """Returns whether the filesystem can."""
    mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
    if LIBC.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length)) == 0:
        return True
    number = ctypes.get_errno()
    if number != errno.EOPNOTSUPP:
        raise OSError(number, os.strerror(number))
    return False


class Exercise(Workload):
    """as fsx does: writes, stores, cuts, holes, reads compared at once, some synced"""

    largest = 400 * KIB

    def begin(self):
        self.size = 100 * KIB
        self.file = self.name("all")
        self.descriptor = self.new_file(self.file, self.size)
        self.holes = True

    def turn(self):
        match self.dice.randrange(8):
            case 0:
                self.size = self.dice.randrange(self.largest)
                self.truncate(self.descriptor, self.file, self.size)
            case 1 if self.size and self.holes:
                self.hole()
            case 2 if self.size and not self.on_write:
                self.store()
            case 3:
                # Far behind the end: a hole, or much at once.
                length = self.dice.choice((100, 60 * KIB))
                offset = self.dice.randrange(self.largest - length)
                self.write(self.descriptor, self.file, offset, length)
                self.size = max(self.size, offset + length)
            case _:
                length = self.dice.choice((1, 511, 4096, 8192, 30 * KIB))
                offset = self.dice.randrange(min(self.size, self.largest - length) + 1)
                self.write(self.descriptor, self.file, offset, length)
                self.size = max(self.size, offset + length)
        if os.fstat(self.descriptor).st_size != self.size:
            raise OSError(errno.EIO, f"the size is {os.fstat(self.descriptor).st_size} and not {self.size}")
        if self.dice.random() < 0.3:
            self.sync(self.descriptor, self.file, self.dice.choice((os.fsync, os.fdatasync)))
        if self.dice.random() < 0.1:
            os.close(self.descriptor)
            self.descriptor = os.open(self.path(self.file), os.O_RDWR)

    def hole(self):
        offset = self.dice.randrange(self.size)
        length = min(self.size - offset, self.dice.choice((100, 4096, 20000)))
        self.log.put("zero", self.file, offset, length)
        self.holes = punch(self.descriptor, offset, length)
        if self.on_write:
            self.log.put("synced", self.file)

    def store(self):
        length = min(self.size, self.dice.choice((1, 300, 5000)))
        offset = self.dice.randrange(self.size - length + 1)
        seed = self.fresh_seed()
        self.log.put("write", self.file, offset, length, seed)
        with mmap.mmap(self.descriptor, self.size) as memory:
            memory[offset : offset + length] = content(seed, length)


class Wander(Workload):
    """files that grow, are overwritten, renamed and removed, in directories that are renamed too"""

    files = 5
    directories = 3
    largest = 2 << 20

    def begin(self):
        self.homes = {}
        self.paths = {}
        self.sizes = {}
        for number in range(self.directories):
            self.make_home(f"home{self.hand}-{number}")
        for _ in range(self.files):
            self.make_file()

    def make_home(self, home):
        self.homes[home] = home
        self.log.put("place", home, "", home)
        os.mkdir(self.path(home))
        sync_directory(self.root)
        self.log.put("done", home)

    def where(self, file):
        home, name = self.paths[file]
        return self.path(f"{self.homes[home]}/{name}")

    def make_file(self):
        file = f"file{self.fresh_seed()}"
        home = self.dice.choice(list(self.homes))
        self.paths[file] = (home, file)
        self.log.put("place", file, home, file)
        length = self.dice.choice((0, 300, 5000, 300 * KIB))
        descriptor = os.open(self.where(file), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self.write(descriptor, file, 0, length)
        self.sizes[file] = length
        if self.dice.random() < 0.7:
            self.settle(descriptor, file)
        os.close(descriptor)

    def settle(self, descriptor, file):
        """Content and name."""
        os.fsync(descriptor)
        self.log.put("synced", file)
        sync_directory(self.path(self.homes[self.paths[file][0]]))
        self.log.put("done", file)

    def turn(self):
        file = self.dice.choice(list(self.paths))
        choice = self.dice.random()
        if choice < 0.1:
            self.move(file)
        elif choice < 0.13:
            self.move_home()
        elif choice < 0.17:
            self.remove(file)
        else:
            self.work(file, choice > 0.85)

    def work(self, file, grow):
        descriptor = os.open(self.where(file), os.O_RDWR)
        size = self.sizes[file]
        for _ in range(self.dice.randrange(1, 4)):
            length = self.dice.choice((50 * KIB, 200 * KIB)) if grow else self.dice.choice((1, 700, 4096, 10000))
            offset = size if grow else self.dice.randrange(size + 1)
            if offset + length > self.largest:
                break
            self.write(descriptor, file, offset, length)
            size = max(size, offset + length)
        self.sizes[file] = size
        if self.dice.random() < 0.4:
            self.settle(descriptor, file)
        os.close(descriptor)

    def move(self, file):
        old, (old_home, _) = self.where(file), self.paths[file]
        home, name = self.dice.choice(list(self.homes)), f"moved{self.fresh_seed()}{'-long' * self.dice.choice((0, 35))}"
        self.log.put("place", file, home, name)
        self.paths[file] = (home, name)
        os.rename(old, self.where(file))
        if self.dice.random() < 0.5:
            for which in {old_home, home}:
                sync_directory(self.path(self.homes[which]))
            self.log.put("done", file)

    def move_home(self):
        home = self.dice.choice(list(self.homes))
        old = self.homes[home]
        new = f"{home}-{self.fresh_seed()}"
        self.log.put("place", home, "", new)
        os.rename(self.path(old), self.path(new))
        self.homes[home] = new
        sync_directory(self.root)
        self.log.put("done", home)

    def remove(self, file):
        self.log.put("remove", file)
        os.unlink(self.where(file))
        del self.paths[file]
        self.make_file()

    @classmethod
    def verify(cls, root, log, seed, hand):
        places, removed = {}, set()
        for what, name, *rest in log:
            if what == "place":
                places.setdefault(name, []).append(rest)
            elif what == "done":
                del places[name][:-1]
            elif what == "remove":
                removed.add(name)
        wrong = []
        for file, history in cls.histories(log).items():
            if file not in places:
                wrong += judge(f"{root}/{file}", file, history)
                continue
            # Anywhere it may have got to; only a name that was acknowledged has to be there.
            paths = [f"{root}/{top}/{name}" for home, name in places[file] for _, top in places[home]]
            found = [path for path in dict.fromkeys(paths) if os.path.lexists(path)]
            if found:
                wrong += judge(found[0], file, history)
            elif file not in removed and ("done", file) in log:
                wrong.append(f"{file} is gone")
        return wrong
