"""Reading the kernel's tables, from files written by a real machine (Linux 6.1)."""

from pathlib import Path

from pop_before_smtp._host import Host, look

ROUTE = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\tFE7100CB\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t007100CB\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
TRIE = """Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 203.0.113.0/24 2 0 2
        |-- 203.0.113.0
           /24 link UNICAST
        |-- 203.0.113.1
           /32 host LOCAL
"""
ROUTE6 = """fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 br-0123456789ab
00000000000000000000000000000000 00 00000000000000000000000000000000 00 20010db80000000000000000000000fe 00000400 00000001 00000000 00000003     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001  docker0
"""
INET6 = "20010db8000000000000000000000001 02 40 00 80     eth0\n"


def write(root: Path) -> None:
    net = root / "proc/net"
    net.mkdir(parents=True)
    for name, text in (("route", ROUTE), ("fib_trie", TRIE), ("ipv6_route", ROUTE6), ("if_inet6", INET6)):
        (net / name).write_text(text)


def test_own_addresses_gateways_and_bridges(tmp_path: Path) -> None:
    write(tmp_path)
    host = look(tmp_path)
    assert host.own == {"203.0.113.1", "203.0.113.254", "2001:db8::1", "2001:db8::fe"}
    assert [str(bridge) for bridge in host.bridges] == ["172.17.0.0/16", "fd00::/64"]
    assert not host.container


def test_a_container_shows(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert look(tmp_path).container


def test_a_machine_that_hides_everything(tmp_path: Path) -> None:
    assert look(tmp_path) == Host()


def test_the_real_machine_knows_itself() -> None:
    assert "127.0.0.1" in look().own
