"""What a file may hold after a crash: what was acknowledged as synced, or something written later. Nothing else.

A writer logs each write before it does it and each sync after it has returned, one JSON line each, outside the file
system that will crash. A History takes these in the same order.
"""

import json
import os
import random
import time

# What a writer logs when something is to outlive a crash from now on.
ACKNOWLEDGEMENTS = ("synced", "done", "replaced", "committed")
PIECE = 512
CHUNK = 64 << 10


def content(seed, length):
    return random.Random(seed).randbytes(length)


class Log:
    """A line is in the file when `put` returns; only the writer may die, not the system it writes the log to."""

    def __init__(self, path):
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def put(self, *fields):
        os.write(self.descriptor, json.dumps((time.monotonic_ns(), *fields)).encode() + b"\n")


class Records(list):
    """The log of a writer, without a line that it had not finished when it died.

    An acknowledgement after `until`, the moment before the crash, is none: a filesystem that is being shut down drops
    what an fsync would have had to wait for, and the fsync may then return success (xfs does, ext4 may).
    """

    def __init__(self, path, until):
        self.path = path
        self.acknowledged = 0
        with open(path, "rb") as log:
            lines = [json.loads(line) for line in log if line.endswith(b"\n")]
        for moment, what, *rest in lines:
            if what in ACKNOWLEDGEMENTS:
                if moment >= until:
                    continue
                self.acknowledged += 1
            self.append((what, *rest))


def read_file(path):
    """(content, None), (None, None) if there is no such file, or (None, what went wrong)."""
    pieces = []
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"cannot be opened ({error.strerror})"
    try:
        while piece := os.read(descriptor, CHUNK):
            pieces.append(piece)
    except OSError as error:
        return None, f"cannot be read at {sum(map(len, pieces))} ({error.strerror})"
    finally:
        os.close(descriptor)
    return b"".join(pieces), None


def change(image, operation):
    """Does one write or truncation to a bytearray."""
    if operation[0] == "truncate":
        size = operation[1]
        del image[size:]
        image.extend(bytes(size - len(image)))
    else:
        _, offset, data = operation
        image.extend(bytes(max(0, offset + len(data) - len(image))))
        image[offset : offset + len(data)] = data


class History:
    """One file: what it held when it was last acknowledged as synced, and what was done to it since."""

    def __init__(self):
        self.synced = None
        self.later = []

    def write(self, offset, data):
        self.later.append(("write", offset, data))

    def truncate(self, size):
        self.later.append(("truncate", size))

    def sync(self):
        image = bytearray() if self.synced is None else self.synced
        for operation in self.later:
            change(image, operation)
        self.synced, self.later = image, []

    def sizes(self):
        size = len(self.synced or b"")
        seen = [size]
        for operation in self.later:
            size = operation[1] if operation[0] == "truncate" else max(size, operation[1] + len(operation[2]))
            seen.append(size)
        return seen

    def versions(self, start, end):
        """All states of a range, with zeros where the file had ended."""
        part = bytearray((self.synced or b"")[start:end])
        part.extend(bytes(end - start - len(part)))
        yield bytes(part)
        for operation in self.later:
            if operation[0] == "truncate":
                cut = operation[1]
                if cut >= end:
                    continue
                part[max(0, cut - start) :] = bytes(end - max(cut, start))
            else:
                _, offset, data = operation
                first, last = max(offset, start), min(offset + len(data), end)
                if first >= last:
                    continue
                part[first - start : last - start] = data[first - offset : last - offset]
            yield bytes(part)

    def wrong(self, found, whole=None):
        """None if the file may hold `found`, else what is wrong. Each byte may be of another state; with `whole`, each
        block of that size has to be of one state as a whole."""
        if found is None:
            return None if self.synced is None else "is gone"
        if self.synced is not None and found == self.synced:
            return None
        sizes = self.sizes()
        if not min(sizes) <= len(found) <= max(sizes):
            return f"has {len(found)} bytes instead of {min(sizes)} to {max(sizes)}"
        step = whole or PIECE
        base = self.synced or b""
        for start in range(0, len(found), step):
            part = found[start : start + step]
            if part == base[start : start + step]:
                continue
            versions = list(self.versions(start, start + len(part)))
            if part in versions:
                continue
            if whole:
                return f"holds at {start} a block that it never held"
            for place, byte in enumerate(part):
                if all(version[place] != byte for version in versions):
                    return f"holds at {start + place} what was not written last ({len(versions) - 1} later writes)"
        return None


def judge(path, name, history, whole=None):
    """[] or [what is wrong with a file]."""
    found, error = read_file(path)
    # A file that was never synced may be missing; one that is there can be read.
    wrong = error or history.wrong(found, whole)
    return [f"{name} {wrong}"] if wrong else []
