"""Pod addresses."""

import ipaddress
import socket

import pytest

from pipecat_local.node.address import Addresses, NoAddress

# Of a range that no node uses, so that tests beside a running node are left alone.
SMALL = ipaddress.IPv4Network("127.200.0.0/29")


def test_two_nodes_share_a_range_and_never_an_address() -> None:
    one, other = Addresses(SMALL), Addresses(SMALL)
    try:
        taken = [one.take(), other.take(), one.take(), other.take(), one.take(), other.take()]
        assert sorted(taken) == [str(SMALL[n]) for n in range(1, 7)]
        with pytest.raises(NoAddress):
            one.take()
        one.release(taken[0])
        assert other.take() == taken[0]
    finally:
        one.close()
        other.close()


def test_an_address_that_was_just_used_is_the_last_to_be_used_again() -> None:
    addresses = Addresses(SMALL)
    try:
        seen = []
        for _ in range(6):
            seen.append(addresses.take())
            addresses.release(seen[-1])
        assert len(set(seen)) == 6
    finally:
        addresses.close()


def test_an_address_can_be_listened_on_as_it_is() -> None:
    addresses = Addresses(SMALL)
    try:
        with socket.create_server((addresses.take(), 0)) as server:
            assert server.getsockname()[0].startswith("127.200.0.")
    finally:
        addresses.close()
