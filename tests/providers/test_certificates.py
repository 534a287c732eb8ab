"""When the certificates end that we show, read from the files that the directory names."""

from __future__ import annotations

from pathlib import Path

import trustme
from cryptography import x509
from msgspec.structs import replace

from backend.metrics import Metric
from backend.providers.certificates import certificate_ends, ends
from backend.providers.contract import Tls
from backend.providers.directory import Directory
from tests.providers.given import BANK, CA_CODE, authority, provider


async def test_each_institution_has_the_end_of_what_we_show_to_it(tmp_path: Path) -> None:
    file = tmp_path / "ours.pem"
    issued = trustme.CA().issue_cert("moa.example")
    file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    end = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).not_valid_after_utc
    ours, gone = (Tls(client_certificate=str(path)) for path in (file, tmp_path / "gone.pem"))
    bank, other, plain = (
        replace(provider(), tls=ours),
        replace(provider(), org_code="A1MOABK002", tls=gone),
        replace(provider(), org_code="A1MOABK003"),
    )
    directory = Directory(replace(authority(), tls=ours), {each.org_code: each for each in (bank, other, plain)})
    assert ends(directory) == {BANK: end, CA_CODE: end}
    shown = {(sample.metric, sample.labels): sample.value for sample in await certificate_ends(lambda: directory)}
    assert shown == {(Metric.CERTIFICATE_END, (code,)): end.timestamp() for code in (BANK, CA_CODE)}
