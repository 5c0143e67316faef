"""Disks in a file whose power can be cut, with ext4 or xfs on them.

Two kinds. A plain one is cut by FS_IOC_SHUTDOWN without a log flush: the filesystem forgets what it had not written.
A recording one lies on examples/recording-disk.rs, and loses and tears writes that were not flushed, too.

Everything here works on files and loop devices that this process made; `Disk.shut_down` refuses anything else.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import struct
import subprocess
import time
from pathlib import Path

from mounts import REPOSITORY, Unusable, mounts_below

# include/uapi/linux/fs.h and fs/xfs/libxfs/xfs_fs.h: the same number for both.
FS_IOC_SHUTDOWN = 0x8004587D
SHUTDOWN_NOLOGFLUSH = 2
LOOP_MAJOR = 7

RECORDING_DISK = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "examples" / "recording-disk"

SIZES = {"ext4": 256 << 20, "xfs": 320 << 20}
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "-J", "size=8"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
}
# Copies of an xfs have its identifier.
MOUNT = {"ext4": [], "xfs": ["-o", "nouuid"]}


def run(*command, seconds=180):
    """Runs a program that must succeed, and gives what it printed."""
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Unusable(f"{' '.join(map(str, command))} did not end within {seconds} s") from None
    if result.returncode:
        said = (result.stderr or result.stdout).strip()
        raise Unusable(f"{' '.join(map(str, command))} failed: {said}")
    return result.stdout.strip()


def wait(what, condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Unusable(f"{what}: not within {seconds} s")
        time.sleep(0.005)


def sync_directory(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def build_recording_disk():
    manifest = REPOSITORY / "Cargo.toml"
    run("cargo", "build", "--quiet", "--locked", "--release", "--example", RECORDING_DISK.name, "--manifest-path", manifest, seconds=1800)


class Disk:
    """A filesystem in the file `home/image`, mounted on `home/disk`. One that loses power only by FS_IOC_SHUTDOWN."""

    make = MAKE
    loop_options = ()

    def __init__(self, home, filesystem):
        self.home = Path(home)
        self.filesystem = filesystem
        self.image = self.home / "image"
        self.root = self.home / "disk"
        self.device = None
        self.outcome = ""

    def create(self, pattern=None):
        """A new one, or a copy of another that is not in use."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.root.mkdir()
        if pattern:
            run("cp", pattern.image, self.image)
        else:
            with open(self.image, "wb") as image:
                image.truncate(SIZES[self.filesystem])
            run(*self.make[self.filesystem], self.image)
        self.start()
        self.mount(self.under())

    def start(self):
        """Whatever must run below the filesystem."""

    def under(self):
        """The file that the loop device is set up on."""
        return self.image

    def mount(self, file):
        """Also replays the filesystem's own journal."""
        self.device = run("losetup", "--find", "--show", *self.loop_options, file)
        try:
            run("mount", "-t", self.filesystem, *MOUNT[self.filesystem], self.device, self.root)
        except BaseException:
            self.release()
            raise

    def unmount(self):
        for mountpoint in reversed(mounts_below(self.home)):
            with contextlib.suppress(Unusable):
                run("umount", mountpoint)
        if mounts_below(self.home):
            wait(f"unmounting {self.root}", lambda: not self.try_unmount())
        self.release()

    def try_unmount(self):
        """A killed process may need a moment to let go. Returns what is still mounted."""
        for mountpoint in reversed(mounts_below(self.home)):
            subprocess.run(["umount", mountpoint], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return mounts_below(self.home)

    def release(self):
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], capture_output=True, check=False)
            self.device = None

    def is_ours(self, descriptor):
        """Whether an open directory is the root of our own loop device's filesystem, and of nothing else."""
        device = os.fstat(descriptor).st_dev
        if self.device is None or device == os.stat(self.home).st_dev or os.major(device) != LOOP_MAJOR:
            return False
        block = os.stat(self.device)
        if not stat.S_ISBLK(block.st_mode) or block.st_rdev != device:
            return False
        backing = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/loop/backing_file").read_text().strip()
        return backing == str(self.under())

    def shut_down(self):
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not self.is_ours(descriptor):
                raise Unusable(f"{self.root} is not on a loop device of this program: not shutting it down")
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("=I", SHUTDOWN_NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def cut(self, dice):
        """The power fails. Returns the moment before, of the monotonic clock in nanoseconds."""
        moment = time.monotonic_ns()
        self.shut_down()
        return moment

    def restart(self):
        """The power is back. Whoever used the disk has to be dead."""
        self.unmount()
        self.mount(self.image)

    def snapshot(self):
        """A copy of what the disk holds now, for a disk that lies."""
        run("cp", "--sparse=always", self.image, self.home / "image.before")

    def go_back(self):
        """What a disk does that has lied: it holds what it held at the snapshot."""
        self.unmount()
        os.replace(self.home / "image.before", self.image)
        self.mount(self.image)


class RecordingDisk(Disk):
    """A disk that also loses and tears what was not flushed, in pieces of `tear` bytes."""

    def __init__(self, home, filesystem, tear, program, lie=False):
        super().__init__(home, filesystem)
        self.tear = tear
        self.program = program
        self.lie = lie
        self.below = self.home / "below"
        self.process = None

    def under(self):
        return self.below / "disk" if self.process else self.image

    def start(self):
        self.below.mkdir()
        flags = ["--lie"] if self.lie else []
        self.process = subprocess.Popen([self.program, self.image, self.below, *flags], stdin=subprocess.DEVNULL)
        wait("the recording disk", lambda: (self.below / "control").exists() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise Unusable("the recording disk did not start")

    def cut(self, dice):
        """At once, or at the next flush or write that comes, for which the disk waits a little."""
        seed = dice.getrandbits(60)
        when = dice.choice(("now", "flush", "flush", str(dice.randrange(12))))
        said = self.control(f"cut {seed} {self.tear} {when}")
        deadline = time.monotonic() + 0.3
        while not said and time.monotonic() < deadline:
            time.sleep(0.002)
            said = self.control()
        moment, self.outcome = (said or self.control(f"cut {seed} {self.tear} now")).split(" ", 1)
        # So that the filesystem does not wait for a disk that is gone. It may have noticed by itself: EIO.
        with contextlib.suppress(OSError):
            self.shut_down()
        return int(moment)

    def control(self, command=None):
        # Opened without O_TRUNC: it is no file that could be cut.
        with open(self.below / "control", "r+b", buffering=0) as control:
            if command:
                with contextlib.suppress(OSError):
                    control.write(command.encode())
            control.seek(0)
            return control.read(4096).decode().strip()

    def unmount(self):
        if self.process is None:
            super().unmount()
            return
        wait(f"unmounting {self.root}", lambda: not self.still_on_top())
        self.release()
        wait(f"unmounting {self.below}", lambda: not self.try_unmount())
        try:
            self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None

    def still_on_top(self):
        """Unmounts all but the recording disk itself. Returns what is still mounted."""
        top = [mountpoint for mountpoint in mounts_below(self.home) if mountpoint != str(self.below)]
        for mountpoint in reversed(top):
            subprocess.run(["umount", mountpoint], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return [mountpoint for mountpoint in mounts_below(self.home) if mountpoint != str(self.below)]


class Directory:
    """No disk of its own: only a daemon dies on it. It lies by going back to an earlier copy of itself."""

    outcome = ""

    def __init__(self, home):
        self.home = Path(home)
        self.root = self.home / "disk"

    def create(self, pattern=None):
        if pattern:
            run("cp", "-a", pattern.root, self.root)
        else:
            self.root.mkdir(parents=True)

    def restart(self):
        pass

    def unmount(self):
        pass

    def snapshot(self):
        # A file that goes away during the copy is one that the lie forgets.
        subprocess.run(["cp", "-a", self.root, self.home / "before"], capture_output=True, check=False)

    def go_back(self):
        shutil.rmtree(self.root)
        os.rename(self.home / "before", self.root)


COLUMNS = {
    "ext4": "ext4 in a loop file, FS_IOC_SHUTDOWN without a log flush",
    "xfs": "the same on xfs",
    "ext4-512": "ext4 on a disk that keeps, drops or tears each write since the last flush, in sectors of 512 bytes",
    "ext4-4096": "the same, in sectors of 4 KiB",
    "xfs-4096": "the same on xfs",
    "kill": "kill -9 of the daemon alone",
}


def open_disk(column, home, program=None, lie=False):
    """The disk of a column. `program` is the recording disk."""
    filesystem, _, tear = column.partition("-")
    if column == "kill":
        return Directory(home)
    if tear:
        return RecordingDisk(home, filesystem, int(tear), program, lie)
    return Disk(home, filesystem)
