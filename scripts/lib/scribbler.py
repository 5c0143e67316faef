"""A writer that never rests, on many files, and knows every state each of them has had since a moment of peace."""

import contextlib
import os
import random
import threading
import time

from disks import sync_directory
from histories import History, content, read_file

BLOCK = 4096
LARGEST = 600 << 10
# How long what was synced may wait in a journal before it is in its place, in seconds.
WAITS = 60


class Remembered(History):
    """A file, and what it was in the last minute: what was synced may still wait in the journal when a copy begins."""

    def __init__(self):
        super().__init__()
        self.past = History()
        self.past_since = time.monotonic()

    def write(self, offset, data):
        super().write(offset, data)
        self.past.write(offset, data)

    def truncate(self, size):
        super().truncate(size)
        self.past.truncate(size)

    def sync(self):
        super().sync()
        if time.monotonic() - self.past_since > WAITS:
            self.past.synced, self.past.later = bytes(self.synced), []
            self.past_since = time.monotonic()


class Scribbler:
    """Overwrites, appends, cuts, replaces, makes, renames and removes files. Others it leaves alone: `still*`."""

    def __init__(self, root, seed, files=24, still=12):
        self.root = str(root)
        self.dice = random.Random(seed)
        # By name, all files that have had it since the moment of peace, the present one last (None: no file).
        self.names = {}
        self.touched = set()
        self.counter = 0
        self.failure = None
        self.resting = threading.Event()
        self.may_work = threading.Event()
        self.ends = False
        for number in range(files):
            self.make(f"work{number}", self.dice.randrange(LARGEST))
        for number in range(still):
            self.make(f"still{number}", self.dice.randrange(LARGEST))
        self.peace()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def path(self, name):
        return f"{self.root}/{name}"

    def data(self, length):
        self.counter += 1
        return content(self.counter, length)

    # From outside: `go`, `rest`, `end`.

    def go(self):
        self.resting.clear()
        self.may_work.set()

    def rest(self):
        """Returns when it stands still."""
        self.may_work.clear()
        while not self.resting.wait(0.1):
            if self.failure:
                raise self.failure
        if self.failure:
            raise self.failure

    def end(self):
        self.ends = True
        self.may_work.set()
        self.thread.join(30)

    def peace(self):
        """Everything is synced; what was before does not count any more."""
        for name, states in list(self.names.items()):
            if states[-1] is None:
                del self.names[name]
                continue
            descriptor = os.open(self.path(name), os.O_RDWR)
            os.fsync(descriptor)
            os.close(descriptor)
            states[-1].sync()
            self.names[name] = states[-1:]
        sync_directory(self.root)
        self.touched.clear()

    def work(self):
        try:
            while not self.ends:
                if not self.may_work.is_set():
                    self.resting.set()
                    self.may_work.wait()
                    continue
                self.turn()
                # Not so fast that the versions of a block become many.
                time.sleep(0.0001)
        except OSError as error:
            self.failure = error
        finally:
            self.resting.set()

    def turn(self):
        name = self.dice.choice([name for name, states in self.names.items() if states[-1] and not name.startswith("still")])
        self.touched.add(name)
        match self.dice.randrange(20):
            case 0:
                self.replace(name)
            case 1:
                self.make(f"work{self.counter}-{'long' * 45}"[: self.dice.choice((14, 180))], self.dice.randrange(30000))
            case 2 if sum(states[-1] is not None for states in self.names.values()) > 30:
                self.forget(name)
            case 3:
                self.rename(name)
            case 4 | 5:
                self.truncate(name)
            case _:
                self.write(name)

    def make(self, name, length):
        history = Remembered()
        self.names.setdefault(name, []).append(history)
        self.touched.add(name)
        data = self.data(length)
        history.write(0, data)
        descriptor = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(descriptor, data)
        os.close(descriptor)
        return history

    def replace(self, name):
        history = self.make(f"{name}.new", self.dice.randrange(60000))
        descriptor = os.open(self.path(f"{name}.new"), os.O_RDWR)
        os.fsync(descriptor)
        os.close(descriptor)
        self.move(f"{name}.new", name, history)

    def rename(self, name):
        self.counter += 1
        self.move(name, f"work{self.counter}-moved", self.names[name][-1])

    def move(self, old, new, history):
        self.names.setdefault(new, [None]).append(history)
        self.touched |= {old, new}
        os.rename(self.path(old), self.path(new))
        self.names[old].append(None)

    def forget(self, name):
        self.names[name].append(None)
        os.unlink(self.path(name))

    def truncate(self, name):
        size = self.dice.randrange(LARGEST)
        self.names[name][-1].truncate(size)
        os.truncate(self.path(name), size)

    def write(self, name):
        history = self.names[name][-1]
        data = self.data(self.dice.choice((10, 700, BLOCK, 3 * BLOCK, 20000)))
        offset = self.dice.randrange(min(history.sizes()[-1], LARGEST - len(data)) + 1)
        history.write(offset, data)
        descriptor = os.open(self.path(name), os.O_RDWR)
        try:
            os.pwrite(descriptor, data, offset)
            if self.dice.random() < 0.3:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def judge(self, root, name, complete):
        """(what is wrong with a file in a copy, or None; what it was held against: "still", "recent", "written", "older")

        `complete` is whether the program that copied did not complain that files changed under it.
        """
        found, error = read_file(f"{root}/{name}")
        states = self.names.get(name)
        if states is None:
            return "has a name that never was", "written"
        if name not in self.touched:
            if error or found == states[-1].synced:
                return error, "still"
            # Those that were synced a moment before the copy may not have been in their place yet.
            moment = not name.startswith("still") and states[-1].past.wrong(found, BLOCK) is None
            return "is not what it was all the time", "recent" if moment else "still"
        if error:
            return error, "written"
        if found is None:
            # It may be missing if it came, went or was renamed meanwhile.
            moved = not complete or len(states) > 1 or states[0].synced is None
            return (None if moved else "is gone"), "written"
        reasons = [state.wrong(found, BLOCK) for state in states if state]
        if None in reasons:
            return None, "written"
        if any(state.past.wrong(found, BLOCK) is None for state in states if state):
            return None, "older"
        return (reasons or ["was removed before the copy"])[-1], "written"

    def all_names(self, root):
        with contextlib.suppress(OSError):
            return sorted(set(self.names) | set(os.listdir(root)))
        return sorted(self.names)
