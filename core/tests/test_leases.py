"""The lease table against a model, and its corner cases."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pop_before_smtp._leases import LeaseTable

ADDRESSES = st.sampled_from([f"192.0.2.{n}" for n in range(6)])
SLOT = 0.25


def expire(table: LeaseTable, now: float, limit: int = 5_000) -> set[str]:
    gone: set[str] = set()
    while (due := table.next_due()) is not None and due <= now:
        gone |= set(table.expire(now, limit))
    return gone


class LeaseMachine(RuleBasedStateMachine):
    """address -> deadline, nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.table = LeaseTable()
        self.model: dict[str, float] = {}
        self.now = 0.0

    @rule(address=ADDRESSES, grace=st.floats(0.01, 100))
    def grant(self, address: str, grace: float) -> None:
        new = self.table.grant(address, self.now + grace)
        assert new == (address not in self.model)
        self.model[address] = max(self.model.get(address, 0.0), self.now + grace)

    @rule(address=ADDRESSES)
    def revoke(self, address: str) -> None:
        assert self.table.revoke(address) == (self.model.pop(address, None) is not None)

    @rule(seconds=st.floats(0, 50), limit=st.integers(1, 3))
    def pass_time(self, seconds: float, limit: int) -> None:
        self.now += seconds
        gone = expire(self.table, self.now, limit)
        assert all(self.model[address] <= self.now for address in gone)
        for address in gone:
            del self.model[address]
        late = [deadline for deadline in self.model.values() if deadline <= self.now - SLOT]
        assert not late, "a lease outlived its deadline by more than a slot"

    @invariant()
    def same(self) -> None:
        assert set(self.table) == set(self.model)
        assert len(self.table) == len(self.model)
        assert {address: self.table.deadline(address) for address in self.model} == self.model


TestLeases = LeaseMachine.TestCase


def test_a_renewal_changes_the_deadline_and_files_nothing() -> None:
    table = LeaseTable()
    table.grant("192.0.2.1", 10.0)
    assert not table.grant("192.0.2.1", 20.0)
    assert expire(table, 15.0) == set()
    assert expire(table, 20.0) == {"192.0.2.1"}
    assert table.next_due() is None


def test_an_earlier_deadline_shortens_nothing() -> None:
    table = LeaseTable()
    table.grant("192.0.2.1", 20.0)
    table.grant("192.0.2.1", 10.0)
    assert table.deadline("192.0.2.1") == 20.0


def test_a_lease_granted_after_revocation_ends_at_its_own_deadline() -> None:
    table = LeaseTable()
    table.grant("192.0.2.1", 1800.0)
    table.revoke("192.0.2.1")
    assert table.grant("192.0.2.1", 1000.0)
    assert expire(table, 1000.0) == {"192.0.2.1"}
    assert expire(table, 2000.0) == set()


def test_expiry_goes_in_slices() -> None:
    table = LeaseTable()
    for number in range(100):
        table.grant(f"192.0.2.{number}", 5.0)
    assert len(table.expire(5.0, 30)) == 30
    assert len(table) == 70


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_expiry_is_never_early_and_at_most_a_slot_late(deadlines: list[float]) -> None:
    table = LeaseTable()
    for number, deadline in enumerate(deadlines):
        table.grant(str(number), deadline)
    last = max(deadlines)
    assert expire(table, math.nextafter(min(deadlines), -1)) == set()
    expire(table, last + SLOT)
    assert len(table) == 0


def test_nothing_is_due_in_an_empty_table() -> None:
    assert LeaseTable().next_due() is None
    assert LeaseTable().expire(1e9) == []
    assert LeaseTable().deadline("192.0.2.1") is None
    with pytest.raises(StopIteration):
        next(iter(LeaseTable()))
