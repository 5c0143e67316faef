"""Directories and names: made, linked, renamed and removed, and synced with all the directories concerned."""

import os

from disks import sync_directory
from histories import content, read_file
from writers import Workload


class Tree(Workload):
    """directories, long names, links, renames and removals, synced with their directories"""

    most = 400

    def prepare(self):
        self.top = self.name("tree")
        # Content of each file by path; None for a directory.
        self.nodes = {}
        self.directory(self.top)

    def long_or_short(self, what):
        number = self.fresh_seed()
        return f"{what}{number}-{'long' * 46}"[:200] if self.dice.random() < 0.4 else f"{what}{number}"

    def sync(self, *directories):
        """Acknowledges the step that was logged last."""
        if not self.on_write:
            for directory in directories:
                sync_directory(self.path(directory))
        self.log.put("done")

    def directory(self, path):
        self.log.put("make", path, None)
        os.mkdir(self.path(path))
        self.sync(path, os.path.dirname(path))
        self.nodes[path] = None

    def file(self, path, length):
        seed = self.fresh_seed()
        self.log.put("make", path, [seed, length])
        descriptor = os.open(self.path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, content(seed, length))
        if not self.on_write:
            os.fsync(descriptor)
        os.close(descriptor)
        self.sync(os.path.dirname(path))
        self.nodes[path] = [seed, length]

    def directories(self):
        return [path for path, node in self.nodes.items() if node is None]

    def turn(self):
        parents = [path for path in self.directories() if path.count("/") < 7]
        parent = self.dice.choice(parents)
        choice = self.dice.random()
        if len(self.nodes) > self.most or choice < 0.1:
            self.remove()
        elif choice < 0.2:
            self.rename(parent)
        elif choice < 0.28:
            self.link(parent)
        elif choice < 0.6:
            self.directory(f"{parent}/{self.long_or_short('d')}")
        else:
            self.file(f"{parent}/{self.long_or_short('f')}", self.dice.choice((0, 1, 500, 4096, 9000)))

    def remove(self):
        """A file, or a directory that is empty."""
        full = {os.path.dirname(path) for path in self.nodes}
        removable = [path for path in self.nodes if path not in full and path != self.top]
        if not removable:
            return
        path = self.dice.choice(removable)
        self.log.put("remove", path)
        (os.rmdir if self.nodes.pop(path) is None else os.unlink)(self.path(path))
        self.sync(os.path.dirname(path))

    def rename(self, parent):
        movable = [path for path in self.nodes if path != self.top and not f"{parent}/".startswith(f"{path}/")]
        if not movable:
            return
        old = self.dice.choice(movable)
        new = f"{parent}/{self.long_or_short('m')}"
        self.log.put("rename", old, new)
        os.rename(self.path(old), self.path(new))
        self.sync(parent, os.path.dirname(old))
        self.nodes = moved(self.nodes, old, new)

    def link(self, parent):
        files = [path for path, node in self.nodes.items() if node is not None]
        if not files:
            return
        old = self.dice.choice(files)
        new = f"{parent}/{self.long_or_short('l')}"
        self.log.put("make", new, self.nodes[old])
        os.link(self.path(old), self.path(new))
        self.sync(parent)
        self.nodes[new] = self.nodes[old]

    @classmethod
    def verify(cls, root, log, seed, hand):
        nodes, steps = {}, []
        for record in log:
            if record[0] == "done":
                for step in steps:
                    nodes = after(nodes, step)
                steps = []
            else:
                steps.append(record)
        # What was under way may be done, or not.
        wrong = differences(root, nodes, steps)
        while steps and wrong:
            nodes = after(nodes, steps.pop(0))
            wrong = min(wrong, differences(root, nodes, steps), key=len)
        return wrong


def moved(nodes, old, new):
    at = len(old)
    return {(new + path[at:] if path == old or path.startswith(f"{old}/") else path): node for path, node in nodes.items()}


def after(nodes, step):
    what, path, *rest = step
    if what == "make":
        return nodes | {path: rest[0]}
    if what == "rename":
        return moved(nodes, path, rest[0])
    return {other: node for other, node in nodes.items() if other != path}


def differences(root, nodes, steps):
    """What is not as in `nodes`, also a name too many, unless it is one that a step was to make."""
    wrong = []
    allowed = {step[1] for step in steps if step[0] == "make"}
    below = {}
    for path in nodes:
        below.setdefault(os.path.dirname(path), set()).add(os.path.basename(path))
    for path, node in nodes.items():
        shown = path if len(path) < 80 else f"{path[:60]}… ({len(path)} bytes)"
        if node is not None:
            found, error = read_file(f"{root}/{path}")
            if error or found != content(*node):
                wrong.append(f"{shown} {error or ('is gone' if found is None else 'has another content')}")
            continue
        try:
            names = set(os.listdir(f"{root}/{path}"))
        except OSError as error:
            wrong.append(f"{shown} cannot be listed ({error.strerror})")
            continue
        for name in names - below.get(path, set()):
            if f"{path}/{name}" not in allowed:
                wrong.append(f"{shown} has a name too many: {name[:60]}")
    return wrong
