"""Nobody makes us call inside our own network."""

from __future__ import annotations

import pytest

from backend.webhooks.addresses import LONGEST_URL, Reach, fault_of, may_connect

PUBLIC = [
    "https://hooks.example/moa",
    "https://hooks.example:8443/a?b=c",
    "https://93.184.215.14/x",
    "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/",
]
LOOPBACK = ["http://127.0.0.1:3000/hook", "http://localhost:3000", "https://localhost/x", "http://[::1]:3000/", "http://app.localhost/"]
PRIVATE = [
    "http://10.0.0.7/hook",
    "https://192.168.1.1/",
    "http://[fd00::1]/",
    "http://169.254.169.254/latest/meta-data",
    "http://hooks.internal/x",
]
NEVER = [
    "",
    "hooks.example/moa",
    "ftp://hooks.example/",
    "file:///etc/passwd",
    "https://",
    "https:///path",
    "https://user:password@hooks.example/",
    "https://user@hooks.example/",
    "https://hooks.example/#part",
    "https://hooks.example:99999/",
    "https://hooks.example\\@127.0.0.1/",
    "https://hooks.example/a b",
    "https://hooks.example/\n",
    "https://후크.example/",
    "https://127.1/",
    "https://2130706433/",
    "https://0177.0.0.1/",
    "https://0.0.0.0/",
    "https://[::]/",
    "https://224.0.0.1/",
    "https://%31%32%37.0.0.1/",
    "https://hooks.example/" + "x" * LONGEST_URL,
]


@pytest.mark.parametrize("url", PUBLIC)
@pytest.mark.parametrize("reach", Reach)
def test_the_public_internet_may_be_called(url: str, reach: Reach) -> None:
    assert fault_of(url, reach) is None


@pytest.mark.parametrize("url", LOOPBACK)
def test_this_machine_may_be_called_where_a_setting_allows_it(url: str) -> None:
    assert fault_of(url, Reach.PUBLIC) is not None
    assert fault_of(url, Reach.LOOPBACK) is None
    assert fault_of(url, Reach.ANY) is None


@pytest.mark.parametrize("url", PRIVATE)
def test_private_networks_may_be_called_only_where_all_is_allowed(url: str) -> None:
    assert fault_of(url, Reach.PUBLIC) is not None
    assert fault_of(url, Reach.LOOPBACK) is not None
    assert fault_of(url, Reach.ANY) is None


@pytest.mark.parametrize("url", NEVER)
@pytest.mark.parametrize("reach", Reach)
def test_what_is_no_address_is_refused_everywhere(url: str, reach: Reach) -> None:
    assert fault_of(url, reach) is not None


@pytest.mark.parametrize(
    ("address", "furthest"),
    [
        ("93.184.215.14", Reach.PUBLIC),
        ("::ffff:93.184.215.14", Reach.PUBLIC),
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.9.9.9", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("10.0.0.1", Reach.ANY),
        ("169.254.169.254", Reach.ANY),
        ("fe80::1%eth0", Reach.ANY),
        ("100.64.0.1", Reach.ANY),
        ("64:ff9b::10.0.0.1", Reach.ANY),
        ("64:ff9b::93.184.215.14", Reach.PUBLIC),
        ("fec0::1", Reach.ANY),
        ("0.0.0.0", None),
        ("::", None),
        ("224.0.0.1", None),
        ("::ffff:0.0.0.0", None),
    ],
)
def test_an_address_is_judged_at_the_socket(address: str, furthest: Reach | None) -> None:
    allowed = [reach for reach in Reach if may_connect(address, reach)]
    assert allowed == (list(Reach)[list(Reach).index(furthest) :] if furthest else [])
