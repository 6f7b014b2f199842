"""Throw-away machines for whole-system tests: real servers, real log daemons, clients with outside addresses.

A lab is one process tree. Its first process has its own mounts, process ids, host name and network; its root is an
overlay over this machine's root with a tmpfs on top, in which apt installs servers; a second process holds the network
that the clients live in. Both die with the test process, however that ends, and all mounts, networks and servers go
with them: nothing is installed on, and nothing is left on, this machine.

The clients' addresses are all of 203.0.113.0/24 and 2001:db8:9::/64 (documentation networks; Debian's sendmail denies
192.0.2.0/24), the server is 198.51.100.1 and 2001:db8:5::1, mx.test.example.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Self, TypeVar

T = TypeVar("T")
CHECKOUT = Path(__file__).parents[1]
SERVER = {4: "198.51.100.1", 6: "2001:db8:5::1"}
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CLONE_NEWNET = 0x40000000

# $1...: pairs of a folder and a file in it. A folder whose file is not seen below the new root is on another mount.
ROOT = """
if ! mount --make-rprivate / 2>/dev/null && grep -q ' shared:' /proc/1/mountinfo; then
    echo 'the root here is a chroot, whose mounts would be seen outside' >&2; exit 1
fi
mount -t tmpfs -o mode=755 lab /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work lab /mnt/root
cd /mnt/root
for d in run tmp var/tmp dev; do mount -t tmpfs -o mode=1777 lab $d; done
chmod 755 dev run
for n in null zero full random urandom tty; do : > dev/$n; mount --bind /dev/$n dev/$n; done
mkdir -m 1777 dev/shm
ln -s /proc/self/fd dev/fd
while [ $# -gt 0 ]; do
    [ -e ".$2" ] || { mkdir -p ".$1"; mount --bind "$1" ".$1"; }
    shift 2
done
read -r pid rest < /proc/self/stat
mount -t proc proc proc
echo mx > proc/sys/kernel/hostname
mkdir old
ready="echo $pid; while :; do sleep 3600; done"  # not before: until then, writing to our root is writing to this machine
if pivot_root . old 2>/dev/null; then umount -l old; exec sh -c "$ready"; fi
exec chroot . sh -c "$ready"  # where this machine's own root is a chroot
"""

# $1: the process that holds the clients' network.
NETWORK = f"""
ip link add v0 type veth peer name v0 netns $1
CLIENTS=$1
clients() {{ nsenter --target $CLIENTS --net ip "$@"; }}
for ip in ip clients; do $ip link set lo up; $ip link set v0 up; done
ip address add {SERVER[4]}/24 dev v0
ip address add {SERVER[6]}/64 dev v0 nodad
clients address add 198.51.100.2/24 dev v0
clients address add 2001:db8:5::2/64 dev v0 nodad
ip route add 203.0.113.0/24 via 198.51.100.2
ip route add 2001:db8:9::/64 via 2001:db8:5::2
clients route add local 203.0.113.0/24 dev lo
clients route add local 2001:db8:9::/64 dev lo
nsenter --target $CLIENTS --net sh -c 'echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind'
"""

HOSTS = """127.0.0.1 localhost
::1 localhost
198.51.100.1 mx.test.example mx
2001:db8:5::1 mx.test.example mx
"""


def eventually(check: Callable[[], T], *, within: float = 5.0, every: float = 0.02) -> T:
    """Return the first true result of ``check``; AssertionError with the last one after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (result := check()):
        assert time.monotonic() < deadline, f"{result!r} after {within} seconds"
        time.sleep(every)
    return result


class LabError(Exception):
    """A command of the lab itself failed."""


class Lab:
    """One throw-away machine with the network around it.

    Args:
        packages: Debian packages to install in it.
    """

    def __init__(self, *packages: str) -> None:
        self.outside = ThreadPoolExecutor(1)
        namespaces = "--mount --propagation=unchanged --pid --net --ipc --uts --fork --kill-child"
        self._init, pid = self._hold(namespaces, ROOT)
        self._clients, clients = self._hold("--net", "read -r pid rest < /proc/self/stat; echo $pid; read -r forever")
        self.pid = pid
        self.root = Path(f"/proc/{pid}/root")
        try:
            _run(["nsenter", f"--target={pid}", "--net", "sh", "-euc", NETWORK, "sh", str(clients)])
            self.outside.submit(_enter_network, clients).result()
            self._install(packages)
        except BaseException:
            self.close()
            raise

    def _hold(self, namespaces: str, script: str) -> tuple[subprocess.Popen[str], int]:
        """Start a process that holds namespaces and prints its pid when it is ready."""
        visible = [CHECKOUT, CHECKOUT / "pyproject.toml", sys.prefix, f"{sys.prefix}/pyvenv.cfg"]
        visible += [sys.base_prefix, os.path.realpath(sys.executable)]
        process = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig=KILL",
                "unshare",
                *namespaces.split(),
                "sh",
                "-euc",
                script,
                "sh",
                *map(str, visible),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": PATH},
        )
        assert process.stdout
        if line := process.stdout.readline():
            return process, int(line)
        raise LabError(process.communicate()[1].strip())

    def _install(self, packages: Sequence[str]) -> None:
        if self.root.samefile("/"):
            raise LabError("the lab's root is this machine's")
        # apt needs the names that this machine knows; it may have them from files on other mounts, or from none
        self.write("/etc/resolv.conf", _text("/etc/resolv.conf"))
        self.write("/etc/hosts", HOSTS + _text("/etc/hosts"))
        self.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)  # no server starts by itself
        if packages:
            self.write("/etc/dpkg/dpkg.cfg.d/lab", "force-unsafe-io\npath-exclude=/usr/share/man/*\n")
            apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
            install = [*apt, "--no-install-recommends", "-o", "Dpkg::Options::=--force-confnew", "install", *packages]
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "PATH": PATH}
            try:
                _run([*self._enter("--mount", "--pid", "--uts"), *install], env=environment)
            except LabError:  # old lists name packages that are gone
                _run([*self._enter("--mount", "--pid", "--uts"), *apt, "update"], env=environment)
                _run([*self._enter("--mount", "--pid", "--uts"), *install], env=environment)
        self.write("/etc/hosts", HOSTS)
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")

    def _enter(self, *namespaces: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", *namespaces, "--root", "--wd"]

    def _argv(self, argv: Sequence[str | Path]) -> list[str]:
        clean = ["env", "-i", f"PATH={PATH}", "HOME=/root", "LC_ALL=C.UTF-8"]
        return [*self._enter("--mount", "--pid", "--net", "--ipc", "--uts"), *clean, *map(str, argv)]

    def run(self, *argv: str | Path, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program in the lab to its end, ``text`` as its standard input.

        Raises:
            LabError: it failed, if ``check``.
        """
        return _run(self._argv(argv), text=text, check=check)

    def sh(self, script: str) -> str:
        """Run a shell script in the lab, stopping at the first failure; return what it printed."""
        return self.run("sh", "-euc", script).stdout

    def spawn(self, *argv: str | Path, output: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a program in the lab; it dies with the lab at the latest."""
        return subprocess.Popen(self._argv(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def path(self, path: str) -> Path:
        """Return where a path of the lab is seen from here (links that are absolute lead out of the lab)."""
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the lab anew, with the folders it needs."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def connect(self, client: str, port: int) -> socket.socket:
        """Return a TCP connection from an outside address to the server."""
        server = SERVER[6 if ":" in client else 4]
        return self.outside.submit(socket.create_connection, (server, port), 20, (client, 0)).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all that runs in the lab, and the lab."""
        for process in (self._init, self._clients):
            process.kill()
            process.communicate()
        self.outside.shutdown()


def _text(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def _run(
    argv: Sequence[str], *, text: str = "", check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # files, for a pipe ends only when the last server that inherited it does
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        done = subprocess.run(
            argv, input=text, stdout=stdout, stderr=stderr, text=True, timeout=300, check=False, env=env
        )
        for file in (stdout, stderr):
            file.seek(0)
        done.stdout, done.stderr = stdout.read(), stderr.read()
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def _enter_network(pid: int) -> None:
    """Move the calling thread into the network of a process; sockets it makes stay there."""
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


@functools.cache
def lacking() -> str | None:
    """Say what this machine lacks to hold a lab, None if nothing; found out once."""
    if os.geteuid():
        return "a lab needs root"
    if absent := [name for name in ("apt-get", "ip", "nsenter", "setpriv", "unshare") if not shutil.which(name)]:
        return f"a lab needs the programs {', '.join(absent)}"
    try:
        Lab().close()
    except LabError as error:
        return f"a lab cannot be made here: {error}"
    return None
