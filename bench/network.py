"""Two hosts on one machine: network namespaces with a link to the database and one for the clients each.

    root namespace: PostgreSQL at DATABASE, the clients
      ├─ bridge "database" ── host a, host b        cut off one by one
      └─ bridge "clients"  ── host a, host b        stays

Addresses are of 198.18.0.0/15, which is reserved for such tests. Everything is removed at the end, whatever happens.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

NETWORK = "198.18"  # RFC 2544


def possible() -> bool:
    """Whether this process may make namespaces here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"ph{os.getpid()}x"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns", "del", name)
    return made


def _ip(*words: str, inside: str = "") -> None:
    within = ["-n", inside] if inside else []
    done = subprocess.run(["ip", *within, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Network:
    """`database`: where PostgreSQL is to listen. `hosts`: name → namespace and the address that clients use."""

    tag: str
    database: str
    hosts: dict[str, tuple[str, str]]

    def inside(self, host: str) -> tuple[str, ...]:
        """What a command begins with to run on a host."""
        return ("ip", "netns", "exec", self.hosts[host][0])

    def cut(self, host: str) -> None:
        """Take a host's link to the database away: nothing is refused, nothing arrives."""
        _ip("link", "set", f"{self.tag}d{host}", "down")

    def join(self, host: str) -> None:
        """Give it back."""
        _ip("link", "set", f"{self.tag}d{host}", "up")


@contextlib.contextmanager
def network(names: tuple[str, ...] = ("a", "b")) -> Iterator[Network]:
    """Make the namespaces and links; names of one character."""
    tag = f"ph{os.getpid() % 100_000}"  # a link's name has at most 15 characters
    first = 2 * (os.getpid() % 120)
    subnets = {"d": f"{NETWORK}.{first}", "c": f"{NETWORK}.{first + 1}"}
    hosts = {name: (f"{tag}{name}", f"{subnets['c']}.{2 + number}") for number, name in enumerate(names)}
    try:
        for kind, subnet in subnets.items():
            _ip("link", "add", f"{tag}{kind}", "type", "bridge")
            _ip("addr", "add", f"{subnet}.1/24", "dev", f"{tag}{kind}")
            _ip("link", "set", f"{tag}{kind}", "up")
        for number, (name, (space, _)) in enumerate(hosts.items()):
            _ip("netns", "add", space)
            _ip("link", "set", "lo", "up", inside=space)
            for kind, subnet in subnets.items():
                out, within = f"{tag}{kind}{name}", f"{kind}0"
                _ip("link", "add", out, "type", "veth", "peer", "name", within, "netns", space)
                _ip("link", "set", out, "master", f"{tag}{kind}", "up")
                _ip("addr", "add", f"{subnet}.{2 + number}/24", "dev", within, inside=space)
                _ip("link", "set", within, "up", inside=space)
        yield Network(tag=tag, database=f"{subnets['d']}.1", hosts=hosts)
    finally:
        for space, _ in hosts.values():
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
        for kind in subnets:
            for name in (*(f"{tag}{kind}{host}" for host in names), f"{tag}{kind}"):
                subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)
