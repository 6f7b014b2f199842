from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pop_before_smtp.maps import check_key


@given(address=st.ip_addresses())
@example(IPv6Address("::"))
@example(IPv6Address("::1"))
@example(IPv6Address("::102:304"))  # inet_ntop writes ::1.2.3.4
@example(IPv6Address("::ffff:0:102:304"))
@example(IPv6Address("64:ff9b::102:304"))
@example(IPv6Address("1:0:0:2::3"))
@example(IPv6Address("1:2:3:4:5:6:7:0"))
def test_every_address_in_its_canonical_spelling_is_a_key(address: IPv6Address) -> None:
    if getattr(address, "ipv4_mapped", None):
        with pytest.raises(ValueError, match="v4-mapped"):
            check_key(str(address))
    else:
        check_key(str(address))


@given(text=st.one_of(st.text(alphabet="0123456789abcdefABCDEF:.%/ \n\0[]", max_size=40), st.text(max_size=10)))
@example("::1.2.3.4")
@example("::ffff:1.2.3.4")
@example("1.2.3.4\0")
@example("192.0.2")
@example("2001:db8")
@example("0::1")
def test_nothing_else_is(text: str) -> None:
    try:
        check_key(text)
    except ValueError:
        return
    assert str(ip_address(text)) == text
    assert "%" not in text


def test_networks_only_where_they_are_taken() -> None:
    for network in ("192.0.2.0/24", "2001:db8::/32"):
        check_key(network, networks=True)
        with pytest.raises(ValueError, match="does not appear"):
            check_key(network)
    for wrong in ("192.0.2.1/24", "192.0.2.0/255.255.255.0", "2001:DB8::/32", "192.0.2.0/024", "192.0.2/24"):
        with pytest.raises(ValueError, match=r"."):
            check_key(wrong, networks=True)
