"""Several nodes on one machine: each takes a number, and has its names and addresses from it."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Final

from pipecat_local.realnode import cgroups
from pipecat_local.realnode.packages import NotHere

RANGE: Final = IPv4Network("10.250.0.0/16")
_EACH: Final = [*RANGE.subnets(new_prefix=22)]


@dataclass(frozen=True, slots=True)
class Slot:
    """What one node has to itself."""

    number: int

    @property
    def name(self) -> str:
        """Of the node, and of its cgroup folders."""
        return f"{cgroups.PREFIX}{self.number}"

    @property
    def link(self) -> str:
        """The network device on this machine's side."""
        return f"pcnode{self.number}"

    @property
    def network(self) -> IPv4Network:
        """All of its addresses."""
        return _EACH[self.number]

    @property
    def hosts(self) -> IPv4Network:
        """The link between this machine and the node."""
        return self._quarter(0)

    @property
    def pods(self) -> IPv4Network:
        """The pods' addresses."""
        return self._quarter(1)

    @property
    def services(self) -> IPv4Network:
        """The Services' addresses."""
        return self._quarter(2)

    @property
    def host_address(self) -> IPv4Address:
        """This machine's end of the link: pods reach what listens here."""
        return self.hosts[1]

    @property
    def address(self) -> IPv4Address:
        """The node's."""
        return self.hosts[2]

    def _quarter(self, number: int) -> IPv4Network:
        return [*self.network.subnets(new_prefix=24)][number]


@contextmanager
def claimed() -> Iterator[Slot]:
    """A slot that no other process has, for as long as this lasts; given back by the kernel if the process is killed.

    What nodes that were killed left behind is removed first.

    Raises:
        NotHere: all are taken.
    """
    for number in range(len(_EACH)):
        slot = Slot(number)
        with _lock(slot) as free:
            if not free:
                continue
            clear(slot)
            if not any(network.overlaps(slot.network) for network in _routed()):
                _sweep(slot)
                yield slot
                return
    raise NotHere(f"No addresses are left in {RANGE} for one more node.")


def clear(slot: Slot) -> None:
    """Remove what outlives a node's namespaces: the link, if the kernel has not done it yet, and the cgroup folders."""
    subprocess.run(["ip", "link", "delete", slot.link], capture_output=True, check=False)
    cgroups.remove(slot.name)


def _sweep(own: Slot) -> None:
    for name in cgroups.left():
        slot = Slot(int(name.removeprefix(cgroups.PREFIX)))
        if slot != own:
            with _lock(slot) as free:
                if free:
                    clear(slot)


@contextmanager
def _lock(slot: Slot) -> Iterator[bool]:
    """An abstract socket: nothing of it is on disk, and it belongs to the network that the addresses are in."""
    with socket.socket(socket.AF_UNIX) as lock:
        try:
            lock.bind(f"\0{slot.name}")
        except OSError:
            yield False
        else:
            yield True


def _routed() -> list[IPv4Network]:
    """What this machine has routes to, this network's and others'."""
    shown = subprocess.run(
        ["ip", "-json", "-4", "route", "show", "table", "all"], capture_output=True, check=True
    ).stdout
    routes = [route["dst"] for route in json.loads(shown)]
    return [IPv4Network(ip_network(route)) for route in routes if route != "default"]
