"""What a node has to itself is no other node's."""

from itertools import combinations
from pathlib import Path

import pytest

from pipecat_local.realnode.slots import RANGE, Slot, claimed

ALL = [Slot(number) for number in range(64)]


@pytest.mark.parametrize("slot", [ALL[0], ALL[1], ALL[-1]], ids=lambda slot: slot.name)
def test_its_addresses_lie_apart_in_its_network(slot: Slot) -> None:
    parts = (slot.hosts, slot.pods, slot.services)
    assert all(part.subnet_of(slot.network) for part in parts)
    assert not any(one.overlaps(other) for one, other in combinations(parts, 2))
    assert {slot.host_address, slot.address} < set(slot.hosts.hosts())


def test_no_two_share_an_address() -> None:
    assert not any(one.network.overlaps(other.network) for one, other in combinations(ALL, 2))
    assert all(slot.network.subnet_of(RANGE) for slot in ALL)


def test_a_device_s_name_is_not_too_long_for_the_kernel() -> None:
    assert max(len(slot.link) for slot in ALL) <= 15


def test_two_at_a_time_have_two_slots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pipecat_local.realnode.cgroups.ROOT", tmp_path)
    with claimed() as one, claimed() as other:
        assert one != other
