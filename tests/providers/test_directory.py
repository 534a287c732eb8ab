from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from backend.events import Industry
from backend.providers.contract import Provider, Tls
from backend.providers.directory import BUILT_IN, DirectoryFault, directory_of, is_public, is_sandboxed, load_directory
from backend.settings import Settings
from tests.providers.certificates import TestAuthority

CA = """
[ca]
org_code = "CAMOA00001"
name = "모아인증"
base_url = "https://ca.example.com"
"""

BANK = """
[[providers]]
org_code = "A1MOABK001"
name = "새벽은행"
industry = "bank"
base_url = "https://bank.example.com/api"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "providers.toml"
    file.write_text(text, "utf-8")
    return file


def test_a_directory_knows_its_ca_and_its_providers(tmp_path: Path) -> None:
    directory = load_directory(written(tmp_path, CA + BANK))
    assert directory.ca.org_code == "CAMOA00001"
    assert [each.org_code for each in directory.providers] == ["A1MOABK001"]
    provider = directory.provider("A1MOABK001")
    assert provider is not None
    assert (provider.industry, provider.api_version, provider.allow_private) == (Industry.BANK, "v1", False)
    assert directory.provider("NOBODY0000") is None


def test_an_entry_says_what_its_institution_is_to_be_spared(tmp_path: Path) -> None:
    limits = "max_connections = 9\ncall_deadline = 5\ncollection_deadline = 30.5\nslow_after = 2\ncalls_per_second = 0.5\n"
    windows = 'transfer_windows = ["2200:2400", "0000:0100", "0100:0700"]\n'
    [bank] = load_directory(written(tmp_path, CA + BANK + limits + windows)).providers
    assert (bank.max_connections, bank.call_deadline, bank.collection_deadline) == (9, 5.0, 30.5)
    assert (bank.slow_after, bank.calls_per_second) == (2.0, 0.5)
    assert bank.transfer_windows == ("2200:2400", "0000:0100", "0100:0700")


def test_the_head_of_the_built_in_directory_tells_every_field() -> None:
    head = BUILT_IN.read_text("utf-8").split("\n[ca]\n")[0]
    for field in (*Provider.__struct_fields__, *(set(Tls.__struct_fields__) - {"written", "ends_at"})):
        assert re.search(rf"^# +{field} ", head, re.MULTILINE), field


def test_the_built_in_directory_has_three_of_each_industry_and_follows_the_sandbox() -> None:
    directory = directory_of(Settings(_env_file=None, sandbox_url="http://127.0.0.1:4321"))  # type: ignore[call-arg]
    for industry in Industry:
        assert sum(each.industry is industry for each in directory.providers) >= 3
    assert all(each.base_url == f"http://127.0.0.1:4321/{each.org_code}" for each in directory.providers)
    assert directory.ca.base_url == "http://127.0.0.1:4321"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BANK, "[ca]: entry: a table is needed"),
        (CA, "top level: providers:"),
        (CA + "[[providers]", "is not valid TOML"),
        (CA + BANK + "[other]\n", "top level: other: is not a known table"),
        (CA + BANK + BANK, "[[providers]] entry 2: org_code: A1MOABK001 is there twice"),
        (CA + BANK.replace("A1MOABK001", "A1"), "entry 1: org_code: 10 letters or digits"),
        (CA + BANK.replace("A1MOABK001", "CAMOA00001"), "entry 1: org_code: CAMOA00001 is there twice"),
        (CA + BANK.replace('"bank"', '"bakery"'), "entry 1: industry: "),
        (CA + BANK.replace("새벽은행", " "), "entry 1: name: "),
        (CA + BANK + "colour = 1\n", "entry 1: colour: is not a known field"),
        (CA + BANK + "max_connections = 0\n", "entry 1: max_connections: "),
        (CA + BANK + 'max_connections = "9"\n', "entry 1: max_connections: "),
        (CA + BANK + "call_deadline = 0\n", "entry 1: call_deadline: "),
        (CA + BANK + 'api_version = "1"\n', "entry 1: api_version: "),
        (CA + BANK + 'transfer_windows = ["0115:0700"]\n', "entry 1: transfer_windows: "),
        (CA + BANK + 'transfer_windows = ["2300:0500"]\n', "entry 1: transfer_windows: each must begin before it ends"),
        (CA + BANK + 'transfer_windows = ["0500:0900", "0000:0530"]\n', "entry 1: transfer_windows: two of them overlap"),
        (CA + BANK + "calls_per_second = 0\n", "entry 1: calls_per_second: "),
        (CA + "calls_per_second = 10\n" + BANK, "[ca]: calls_per_second: is not a known field"),
        (CA + BANK.replace('name = "새벽은행"', ""), "entry 1: entry: "),
        (CA + BANK.replace("https:", "http:"), "entry 1: base_url: https is needed"),
        (CA + BANK.replace("https:", "ftp:"), "entry 1: base_url: "),
        (CA + BANK.replace("/api", "/api/"), "entry 1: base_url: user, query"),
        (CA + BANK.replace("bank.example.com", "me:secret@bank.example.com"), "entry 1: base_url: user, query"),
        (CA + BANK.replace("bank.example.com", "bank.example.com:99999"), "entry 1: base_url: is not a URL"),
    ],
)
def test_a_fault_is_one_line_that_names_the_file_the_entry_and_the_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DirectoryFault) as caught:
        load_directory(written(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/providers.toml: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_a_fault_too(tmp_path: Path) -> None:
    with pytest.raises(DirectoryFault, match="cannot be read"):
        load_directory(tmp_path / "none.toml")


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "[::1]", "localhost", "bank.internal", "bank"])
def test_a_private_address_needs_leave(tmp_path: Path, host: str) -> None:
    entry = BANK.replace("bank.example.com", host)
    with pytest.raises(DirectoryFault, match="private network"):
        load_directory(written(tmp_path, CA + entry))
    assert load_directory(written(tmp_path, CA + entry + "allow_private = true\n")).providers


def test_an_ipv4_address_inside_ipv6_is_judged_as_what_it_is() -> None:
    assert not is_public("::ffff:127.0.0.1")
    assert not is_public("2002:7f00:0001::")
    assert not is_public("64:ff9b::10.0.0.1"), "NAT64 leads into the private network that its gateway stands in"
    assert not is_public("64:ff9b:1::10.0.0.1")
    assert not is_public("::127.0.0.1")
    assert not is_public("::ffff:0:10.0.0.1")
    assert not is_public("fec0::1"), "site-local: private before there was a word for it"
    assert not is_public("fe80::1%eth0")
    assert is_public("64:ff9b::8.8.8.8")
    assert is_public("2606:4700:4700::1111")
    assert is_public("8.8.8.8")


TLS_FOR_ALL = '[tls]\nca_bundle = "test-authority.pem"\nclient_certificate = "us.pem"\nclient_key = "us.key"\n'


def test_what_goes_for_all_lines_stands_once_and_each_entry_may_say_otherwise(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    us, others = authority.issued("us"), authority.issued("others")
    bank2 = BANK.replace("A1MOABK001", "A1MOABK002") + '[providers.tls]\nclient_certificate = "others.pem"\nclient_key = "others.key"\n'
    bank3 = BANK.replace("A1MOABK001", "A1MOABK003") + '[providers.tls]\npeer_serial_number = "1-2"\n'
    leased = BANK.replace("A1MOABK001", "A1MOABK004").replace("https:", "http:") + "allow_private = true\n"
    directory = load_directory(written(tmp_path, TLS_FOR_ALL + CA + BANK + bank2 + bank3 + leased))
    lines = [each.tls for each in (directory.ca, *directory.providers)]
    assert [line and line.client_certificate for line in lines] == [
        *[str(us.certificate)] * 2,
        str(others.certificate),
        str(us.certificate),
        None,
    ]
    assert [line and line.peer_serial_number for line in lines] == [None, None, None, "1-2", None]
    assert {line.ca_bundle for line in lines if line} == {str(authority.bundle)}
    assert {us.certificate, us.key, others.certificate, others.key} < set(directory.files)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('tls = "on"\n', "[tls]: tls: a table is needed"),
        ('[tls]\npeer_serial_number = "1"\n', "[tls]: peer_serial_number: is not a known field of what goes for all"),
        ("[tls]\nca_bundle = 1\n", "[tls]: ca_bundle: a path is needed"),
        ('[tls]\nca_bundle = "none.pem"\n', "[ca]: tls: "),
    ],
)
def test_a_fault_in_what_goes_for_all_lines_is_told_like_any_other(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DirectoryFault) as caught:
        load_directory(written(tmp_path, text + CA + BANK))
    assert said in str(caught.value)


def secured(**tls: str) -> str:
    return CA + BANK + "[providers.tls]\n" + "".join(f'{name} = "{value}"\n' for name, value in tls.items())


def test_an_entry_says_how_its_line_is_secured_by_files_beside_the_directory(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    us = authority.issued("us", "110111-7654321")
    text = secured(ca_bundle=authority.bundle.name, client_certificate="us.pem", client_key="us.key", peer_serial_number="110111-1234567")
    directory = load_directory(written(tmp_path, text))
    [bank] = directory.providers
    assert bank.tls is not None
    assert bank.tls.ca_bundle == str(authority.bundle)
    assert bank.tls.peer_serial_number == "110111-1234567"
    assert set(directory.files) == {tmp_path / "providers.toml", authority.bundle, us.certificate, us.key}
    os.utime(us.certificate, (1, 1))
    assert load_directory(tmp_path / "providers.toml").providers != (bank,)  # renewed in place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (secured(ca_bundle="none.pem"), "entry 1: tls: "),
        (secured(ca_bundle="providers.toml"), "entry 1: tls.ca_bundle: is not PEM"),
        (secured(client_key="us.key"), "entry 1: tls.client_certificate: is needed"),
        (secured(client_certificate="providers.toml"), "entry 1: tls.client_certificate: "),
        (secured(peer_serial_number=" "), "entry 1: tls.peer_serial_number: is empty"),
        (secured(colour="blue"), "entry 1: tls: "),
        (secured() + "written = [1]\n", "entry 1: tls.written: is not a known field"),
        (secured() + "ends_at = 2026-11-22T00:00:00Z\n", "entry 1: tls.ends_at: is not a known field"),
        (CA + BANK.replace("https:", "http:") + "allow_private = true\ntls = {}\n", "entry 1: tls: base_url must be https"),
        (CA + BANK + "collection_deadline = 0\n", "entry 1: collection_deadline: "),
        (CA + "call_deadline = 301\n" + BANK, "[ca]: call_deadline: "),
        (CA + "slow_after = 0\n" + BANK, "[ca]: slow_after: "),
        (CA + BANK + "slow_after = 301\n", "entry 1: slow_after: "),
    ],
)
def test_a_line_that_cannot_be_secured_is_a_fault_of_the_directory(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DirectoryFault) as caught:
        load_directory(written(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("http://127.0.0.1:8900", True),
        ("http://127.0.0.1:8900/bank", True),
        ("http://127.0.0.1:8901/bank", False),
        ("http://127.0.0.1/bank", False),
        ("https://127.0.0.1:8900/bank", False),
        ("http://10.1.2.3:8900/bank", False),
        ("http://127.0.0.1.example:8900/bank", False),
    ],
)
def test_a_private_address_alone_makes_no_institution_the_sandboxs(base_url: str, expected: bool) -> None:
    one = Provider(org_code="A1MOABK001", name="은행", industry=Industry.BANK, base_url=base_url, allow_private=True)
    settings = Settings(_env_file=None, sandbox_url="http://127.0.0.1:8900")  # type: ignore[call-arg]
    assert is_sandboxed(one, settings) is expected
    assert not is_sandboxed(one, settings.model_copy(update={"environment": "production"}))


def test_the_sandbox_may_lie_below_a_path() -> None:
    settings = Settings(_env_file=None, sandbox_url="https://test.example/sandbox/")  # type: ignore[call-arg]
    for path, expected in (("sandbox/bank", True), ("sandbox2/bank", False), ("bank", False)):
        one = Provider(org_code="A1MOABK001", name="은행", industry=Industry.BANK, base_url=f"https://test.example:443/{path}")
        assert is_sandboxed(one, settings) is expected
