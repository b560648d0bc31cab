"""One loopback address for each pod: Linux answers on all of 127.0.0.0/8, so nothing has to be set up."""

import ipaddress
import random
import socket
from collections.abc import Iterator
from typing import Final

RANGE: Final = ipaddress.IPv4Network("127.64.0.0/16")
TRIES: Final = 4096


class NoAddress(Exception):
    """None is free."""


class Addresses:
    """The addresses in use by this node.

    Several nodes may run on one machine. An abstract Unix socket named after the address keeps the others off it;
    the kernel frees the name when the node is gone, however it went. Addresses are taken in turn, so that one is
    not used again while connections to it may still linger.
    """

    def __init__(self, network: ipaddress.IPv4Network = RANGE) -> None:
        self._turn = _round(network)
        self._tries = min(TRIES, network.num_addresses)
        self._held: dict[str, socket.socket] = {}

    def take(self) -> str:
        """A free address.

        Raises:
            NoAddress: all are taken.
        """
        for _ in range(self._tries):
            address = next(self._turn)
            holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                holder.bind(f"\0pipecat-local-pod-{address}")
            except OSError:
                holder.close()
            else:
                self._held[address] = holder
                return address
        raise NoAddress(f"no free pod address among {self._tries} tried")

    def release(self, address: str) -> None:
        """It is free again."""
        self._held.pop(address).close()

    def close(self) -> None:
        """All are free again."""
        for address in list(self._held):
            self.release(address)


def _round(network: ipaddress.IPv4Network) -> Iterator[str]:
    # The first and the last are left out: they look like a network and a broadcast address to people.
    count = network.num_addresses - 2
    at = random.randrange(count)
    while True:
        yield str(network[1 + at % count])
        at += 1
