"""Directories to work in: a plain one, or a vault of an encrypted filesystem and its mount.

Shared by scripts/bench, scripts/pjdfstest, scripts/fsx, scripts/crash-real, scripts/crash-copies and
scripts/rotate-under-load. A system is named as on the command line:
NAME[@PROGRAM][+MOUNT-OPTION...], for example wardfs, wardfs-xchacha+nowriteback+acl, wardfs+journal=off or
wardfs@/tmp/old/wardfs.
Every daemon runs in the foreground as a child of this process, so that its processor time and memory are known
and none is left behind.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PASSPHRASE = "correct horse battery staple"
UNMOUNT = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]


class Unusable(Exception):
    """A sentence for the user: why something cannot be run here."""


class System:
    """A plain directory; the encrypted filesystems below differ in how they come to `root`."""

    program = None
    package = None

    def __init__(self, spec, program, options, home):
        self.spec = spec
        self.program = program or self.program
        self.options = options
        self.home = Path(home)
        self.root = self.home / "plain"
        self.pid = None

    @classmethod
    def check(cls, program):
        """Refuses with a sentence if the filesystem cannot be used on this machine."""
        name = program or cls.program
        if name and not shutil.which(name):
            raise Unusable(f"{name} is not installed" + (f" (apt-get install {cls.package})" if cls.package else ""))

    def lie_in(self, directory):
        """Puts what is stored into another directory than `home`."""
        self.root = Path(directory) / "plain"

    def create(self):
        self.make_places()
        self.init()

    def make_places(self):
        self.root.mkdir(parents=True, exist_ok=True)

    def init(self):
        pass

    def mount(self):
        pass

    def unmount(self):
        pass

    def abort(self):
        """Ends all requests that are under way."""

    def tidy(self):
        """Removes what was put into the mount point when nothing was mounted there."""

    def die(self):
        """kill -9 of the daemon, and what is left of its mount taken away."""

    def said(self):
        """The end of the daemon's log."""
        return ""

    def cpu_seconds(self):
        """Processor time the daemon has used; None if there is no daemon."""
        if self.pid is None:
            return None
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def reset_peak(self):
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_bytes(self):
        """The most memory the daemon has had resident since `reset_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE).group(1)) * 1024

    def backing(self):
        """The directory that is really written to."""
        return self.root

    def run_on(self, command, seconds, **options):
        """Runs a program that works on `root`. One that hangs there can only be ended by ending its requests."""
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, **output, **options) as process:
            try:
                said, _ = process.communicate(timeout=seconds)
            except BaseException as reason:
                self.abort()
                process.kill()
                if isinstance(reason, subprocess.TimeoutExpired):
                    raise Unusable(f"{self.spec}: {command[0]} did not end within {seconds} s") from None
                raise
        return subprocess.CompletedProcess(command, process.returncode, said)


class Mounted(System):
    """A vault in `home`, served by a daemon on `root`."""

    def __init__(self, *args):
        super().__init__(*args)
        self.vault = self.home / "vault"
        self.root = self.home / "mount"
        self.secret = self.home / "passphrase"
        self.log = self.home / "log"
        self.daemon = None

    def backing(self):
        return self.vault

    def lie_in(self, directory):
        self.vault = Path(directory) / "vault"

    def make_places(self):
        self.home.mkdir(parents=True, exist_ok=True)
        self.vault.mkdir(exist_ok=True)
        self.root.mkdir()
        self.secret.write_text(PASSPHRASE + "\n")
        self.secret.chmod(0o600)

    def init(self):
        raise NotImplementedError

    def serve(self):
        """The command line of the daemon, in the foreground."""
        raise NotImplementedError

    def environment(self):
        return os.environ

    def run(self, *command):
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self.environment())
        if result.returncode:
            raise Unusable(f"{self.spec}: {' '.join(command[:2])} failed: {(result.stderr or result.stdout).strip()}")

    def mount(self):
        before = self.device()
        with open(self.log, "wb") as log:
            self.daemon = subprocess.Popen(
                self.serve(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment()
            )
        self.pid = self.daemon.pid
        deadline = time.monotonic() + 60
        try:
            while self.device() in (before, None) or not self.ready():
                if self.daemon.poll() is not None or time.monotonic() > deadline:
                    raise Unusable(f"{self.spec} did not mount: {self.said()}")
                time.sleep(0.002)
        except BaseException:
            self.unmount()
            raise

    def ready(self):
        """Whether a mount that is there can be used."""
        return True

    def device(self):
        """None while a daemon that has ended is still mounted."""
        try:
            return os.stat(self.root).st_dev
        except OSError:
            return None

    def unmount(self):
        if self.daemon is None:
            return
        try:
            if self.daemon.poll() is None:
                self.detach()
                self.daemon.wait(60)
        finally:
            if self.daemon.poll() is None:
                self.abort()
                self.daemon.kill()
                self.daemon.wait()
            self.daemon = self.pid = None

    def die(self):
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = self.pid = None
        self.abort()

    def said(self):
        return self.log.read_text(errors="replace")[-2000:]

    def abort(self):
        if str(self.root) not in mounts_below(self.home):
            return
        force = ["umount", "-f", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
        subprocess.run([*force, self.root], stderr=subprocess.DEVNULL, check=False)

    def tidy(self):
        if str(self.root) in mounts_below(self.home):
            return
        for left in self.root.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()

    def detach(self):
        """Something may still look at the mount for a moment (a file manager, an indexer): a few tries."""
        for attempt in range(50):
            result = subprocess.run([*UNMOUNT, self.root], capture_output=True, text=True)
            if result.returncode == 0 or self.daemon.poll() is not None or not mounts_below(self.home):
                return
            time.sleep(0.1)
        raise Unusable(f"{self.spec}: cannot unmount: {result.stderr.strip()}")


# Exit statuses of `wardfs check`.
DAMAGED, UNREADABLE = 27, 28


class Wardfs(Mounted):
    program = str(Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release" / "wardfs")
    init_options = ("--cipher", "xaes-256-gcm")

    @classmethod
    def check(cls, program):
        if not shutil.which(program or cls.program):
            raise Unusable(f"{program or cls.program} does not exist; build it first: cargo build --release")

    def init(self):
        cheap = ("--kdf-memory", "8M", "--kdf-time", "1", "--kdf-parallel", "1", "--force")
        self.run(self.program, "init", str(self.vault), "--passphrase-file", str(self.secret), *cheap, *self.init_options)

    def serve(self):
        # It takes journal=off as an option of its own, the others are those of mount(8).
        flags = [word for option in self.options if option.startswith("journal=") for word in ("--journal", option[8:])]
        rest = [option for option in self.options if not option.startswith("journal=")]
        flags += ["-o", ",".join(rest)] if rest else []
        return [self.program, "mount", "-f", self.vault, self.root, "--passphrase-file", self.secret, *flags]

    def damage(self):
        """What `wardfs check` says of an unmounted vault if anything in it is damaged or cannot be read; else None."""
        command = [self.program, "check", str(self.vault), "--passphrase-file", str(self.secret)]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=300)
        if result.returncode in (DAMAGED, UNREADABLE):
            return result.stdout.strip() or result.stderr.strip()
        return None


class WardfsCopy(Wardfs):
    """A copy of a vault that was made while that was mounted."""

    def serve(self):
        return [*super().serve(), "--copy", "--json"]

    def ready(self):
        return self.recovered() is not None

    def recovered(self):
        """What the mount said that it had found, as `wardfs mount --json` prints it; None if it has not said it yet."""
        text = self.log.read_text(errors="replace")
        with contextlib.suppress(ValueError):
            return json.JSONDecoder().raw_decode(text, text.index("{"))[0]["recovered"]
        return None


class WardfsXChaCha(Wardfs):
    init_options = ("--cipher", "xchacha20-poly1305")


class WardfsLarge(Wardfs):
    init_options = ("--cipher", "xaes-256-gcm", "--chunk-size", "64K")


class Gocryptfs(Mounted):
    program = package = "gocryptfs"
    init_options = ()

    def init(self):
        self.run(self.program, "-q", "-init", "-scryptn", "10", "-passfile", str(self.secret), *self.init_options, str(self.vault))

    def ready(self):
        # A request made before it says so can find it without a thread left to answer.
        return b"mounted and ready" in self.log.read_bytes()

    def serve(self):
        # Its allow_other is a flag, the other options of mount(8) follow -ko.
        rest = [option for option in self.options if option != "allow_other"]
        flags = (["-allow_other"] if "allow_other" in self.options else []) + (["-ko", ",".join(rest)] if rest else [])
        return [self.program, "-fg", "-nosyslog", "-passfile", self.secret, *flags, self.vault, self.root]


class GocryptfsXChaCha(Gocryptfs):
    init_options = ("-xchacha",)


class Encfs(Mounted):
    """It makes the volume at the first mount."""

    program = package = "encfs"

    def init(self):
        pass

    def serve(self):
        options = ["-o", ",".join(self.options)] if self.options else []
        return [self.program, "-f", "--standard", f"--extpass=cat {self.secret}", self.vault, self.root, "--", *options]


class Cryfs(Mounted):
    """It makes the volume at the first mount. The passphrase can only be given on standard input."""

    program = package = "cryfs"

    def init(self):
        pass

    def environment(self):
        private = {"XDG_CONFIG_HOME": str(self.home / "config"), "XDG_DATA_HOME": str(self.home / "data")}
        return {**os.environ, "CRYFS_FRONTEND": "noninteractive", "CRYFS_NO_UPDATE_CHECK": "true", **private}

    def serve(self):
        options = "".join(f" -o {option}" for option in self.options)
        line = f'exec "$0" -f "$1" "$2"{options} < "$3"'
        return ["sh", "-c", line, self.program, self.vault, self.root, self.secret]


class Passthrough(Mounted):
    """Encrypts nothing: what FUSE alone costs. An example in the source of libfuse, to be compiled."""

    program = "passthrough_hp"

    def init(self):
        pass

    def serve(self):
        return [self.program, self.vault, self.root, "--foreground"]


SYSTEMS = {
    "plain": System,
    "passthrough": Passthrough,
    "gocryptfs": Gocryptfs,
    "gocryptfs-xchacha": GocryptfsXChaCha,
    "encfs": Encfs,
    "cryfs": Cryfs,
    "wardfs": Wardfs,
    "wardfs-xchacha": WardfsXChaCha,
    "wardfs-64k": WardfsLarge,
}


def open_system(spec, home, extra_options=()):
    """The system a specification names, not yet created, its files to be kept in `home`."""
    match = re.fullmatch(r"([a-z0-9-]+)(?:@([^+]+))?(?:\+(.+))?", spec)
    kind = SYSTEMS.get(match.group(1)) if match else None
    if kind is None:
        raise Unusable(f"'{spec}' is not a known system; there are {', '.join(SYSTEMS)}")
    options = [*extra_options, *(match.group(3) or "").split("+")]
    kind.check(match.group(2))
    return kind(spec, match.group(2), [option for option in options if option], home)


@contextlib.contextmanager
def scratch(directory=None):
    """A temporary directory that is removed whatever happens, also after SIGTERM or SIGHUP."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    path = Path(tempfile.mkdtemp(prefix="wardfs-", dir=directory))
    try:
        yield path
    finally:
        for mountpoint in reversed(mounts_below(path)):
            subprocess.run([*UNMOUNT, mountpoint], check=False)
        if not mounts_below(path):
            shutil.rmtree(path, ignore_errors=True)


def mounts_below(path):
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [mountpoint for mountpoint in (line.split()[4] for line in lines) if mountpoint.startswith(f"{path}/")]


def wardfs_mounts():
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [line[4] for line in lines if line[line.index("-") + 1] == "fuse.wardfs"]


def become_root(why):
    """Starts the program again through sudo if it does not run as root."""
    if os.geteuid() == 0:
        return
    if not shutil.which("sudo"):
        raise Unusable(f"root is needed {why}")
    environment = [f"{name}={os.environ[name]}" for name in ("PATH", "CARGO_TARGET_DIR", "CARGO_HOME") if name in os.environ]
    os.execvp("sudo", ["sudo", "env", *environment, *sys.argv])


def own_namespaces():
    """Starts the program again where its mounts, processes and shared memory are its own, and end with it."""
    if os.environ.get("WARDFS_OWN_NAMESPACES"):
        # A mount that lives on here could not be ended by whoever made it.
        for mountpoint in wardfs_mounts():
            subprocess.run(["umount", "-l", mountpoint], stderr=subprocess.DEVNULL, check=False)
        return
    os.environ["WARDFS_OWN_NAMESPACES"] = "1"
    spaces = ["--mount", "--propagation", "private", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    os.execvp("unshare", ["unshare", *spaces, sys.executable, *sys.argv])
