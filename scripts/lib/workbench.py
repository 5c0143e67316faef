"""All writers of scripts/crash-real by name, and the process that starts them: a fork, where a new interpreter would
cost more than many a writer does.

A writer puts down and syncs what it begins with, says "ready", and then works until it fails or is killed.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback

import databases
import exercise
import trees
import writers
from histories import Log
from mounts import Unusable

WORKLOADS = {
    "overwrite": writers.Overwrite,
    "append": writers.Append,
    "replace": writers.Replace,
    "tree": trees.Tree,
    "truncate": writers.Truncate,
    "mapped": writers.Mapped,
    "sqlite-wal": databases.SqliteWal,
    "sqlite-delete": databases.SqliteDelete,
    "postgres": databases.Postgres,
    "reopen": writers.Reopen,
    "exercise": exercise.Exercise,
    "wander": exercise.Wander,
    "fresh": writers.Fresh,
}

# A writer that takes longer to begin or to end hangs. Generous: others may use the machine.
PATIENCE = 180


class Hand:
    """A writer at work. It is known by its pidfd: its number may be another's by now."""

    def __init__(self, process, says):
        self.process = process
        self.says = says

    def works(self):
        return not select.select([self.process], [], [], 0)[0]

    def wait_ready(self):
        if not select.select([self.says], [], [], PATIENCE)[0] or os.read(self.says, 100) != b"ready\n":
            raise Unusable("a writer did not get ready")

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, signal.SIGKILL)

    def end(self):
        """After `kill`."""
        if not select.select([self.process], [], [], PATIENCE)[0]:
            raise Unusable("a writer does not end")
        os.close(self.process)
        os.close(self.says)


class Workbench:
    """Starts writers. For all threads of a process."""

    def __init__(self):
        self.lock = threading.Lock()
        self.line, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            command = [sys.executable, "-B", __file__, str(other.fileno())]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[other.fileno()])

    def hire(self, errors, kind, *arguments):
        """A writer of this kind, its arguments as for `Workload`; what it complains of goes to the file `errors`."""
        says, ready = os.pipe()
        with open(errors, "wb") as complaints, self.lock:
            socket.send_fds(self.line, [json.dumps((kind, *arguments)).encode()], [ready, complaints.fileno()])
            os.close(ready)
            _, (process,), *_ = socket.recv_fds(self.line, 1, 1)
        return Hand(process, says)


def serve(line):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.freeze()
    while True:
        message, descriptors, *_ = socket.recv_fds(line, 1 << 16, 2)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            line.close()
            work(*descriptors, *json.loads(message))
        descriptors.append(os.pidfd_open(pid))
        socket.send_fds(line, [b"."], descriptors[-1:])
        for descriptor in descriptors:
            os.close(descriptor)
        while reap():
            pass


def reap():
    """Returns whether a writer had ended."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0]
    except ChildProcessError:
        return False


def work(ready, complaints, kind, root, log, *how):
    try:
        os.dup2(complaints, 2)
        os.close(complaints)
        workload = WORKLOADS[kind](root, Log(log), *how)
        workload.prepare()
        os.write(ready, b"ready\n")
        while True:
            workload.turn()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
