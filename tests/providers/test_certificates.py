"""When the certificates end that we show: those that are in force, whatever their files have become."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from backend.clock import ManualClock
from backend.metrics import Metric
from backend.providers.certificates import certificate_ends, ends
from backend.providers.reloading import LOOKED_AT_EVERY, CurrentDirectory
from backend.settings import Settings
from tests.providers.certificates import TestAuthority
from tests.providers.given import BANK, CA_CODE, NOW

OURS = 'client_certificate = "us.pem"\nclient_key = "us.key"\n'


def directory_file(folder: Path) -> Path:
    """A CA and two institutions, of which one takes none of our certificates."""
    file = folder / "providers.toml"
    file.write_text(
        f'[ca]\norg_code = "{CA_CODE}"\nname = "CA"\nbase_url = "https://ca.example.com"\n[ca.tls]\n{OURS}'
        f'[[providers]]\norg_code = "{BANK}"\nname = "은행"\nindustry = "bank"\nbase_url = "https://bank.example.com"\n'
        f"[providers.tls]\n{OURS}"
        '[[providers]]\norg_code = "A1MOABK003"\nname = "은행"\nindustry = "bank"\nbase_url = "https://other.example.com"\n',
        "utf-8",
    )
    return file


def end_of(certificate: Path) -> datetime:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc


async def test_each_institution_has_the_end_of_what_we_show_to_it(tmp_path: Path) -> None:
    end = end_of(TestAuthority(tmp_path).issued("us", "1").certificate)
    current = CurrentDirectory(Settings(_env_file=None, providers_file=directory_file(tmp_path)), ManualClock(NOW))  # type: ignore[call-arg]
    assert ends(current()) == {BANK: end, CA_CODE: end}
    shown = {(sample.metric, sample.labels): sample.value for sample in certificate_ends(current)}
    assert shown == {(Metric.CERTIFICATE_END, (code,)): end.timestamp() for code in (BANK, CA_CODE)}


async def test_a_new_certificate_counts_from_when_it_is_in_force_and_half_of_one_never(tmp_path: Path) -> None:
    """It is shown with its own key, or not at all: until then every process goes on with the old one, which ends."""
    authority, clock = TestAuthority(tmp_path), ManualClock(NOW)
    old = authority.issued("us", "1")
    key, end = old.key.read_bytes(), end_of(old.certificate)
    current = CurrentDirectory(Settings(_env_file=None, providers_file=directory_file(tmp_path)), clock)  # type: ignore[call-arg]

    new = authority.issued("us", "1", lasts=timedelta(days=90))
    new.key.write_bytes(key)
    clock.move(timedelta(seconds=LOOKED_AT_EVERY))
    assert ends(current())[BANK] == end, "with the old key it cannot be shown"
    new.certificate.unlink()
    clock.move(timedelta(seconds=LOOKED_AT_EVERY))
    assert ends(current())[BANK] == end, "what is gone is no end of the trouble"

    authority.issued("us", "1", lasts=timedelta(days=90))
    clock.move(timedelta(seconds=LOOKED_AT_EVERY))
    assert ends(current())[BANK] == end_of(new.certificate) > datetime.now(UTC) + timedelta(days=89)
