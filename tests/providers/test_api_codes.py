"""The one table of API codes, and the document that shows it: `docs/api-codes.md` is what `document()` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.events import Industry
from backend.providers.api_codes import APIS, FULL_SCOPES, Api, ApiClass, by_code, by_path
from tests.providers.test_client import LISTS_AND_DETAILS

DOCUMENT = Path(__file__).parents[2] / "docs" / "api-codes.md"
ALSO_READ = {(Industry.CARD, "CD24")}  # of people who pay a part only

HEAD = """# API codes

The data APIs of the standard (v1) by industry: what code, sandbox, call log, metrics and statistics call them. Paths follow
`<base path>/v1/<industry>`; every call also takes `org_code`. **Read** are the lists, basics and details that a collection asks for;
what is not read tells transactions (for who looks one asset up), or repeats what another call says.
"""


def _line(api: Api) -> str:
    read = api.code in LISTS_AND_DETAILS[api.industry] or (api.industry, api.code) in ALSO_READ
    params = ", ".join(api.params)
    return f"| {api.code} | {api.method} `{api.path}` | {api.api_class} | {api.scope or '-'} | {params or '-'} | {'yes' if read else ''} |"


def document() -> str:
    """The whole page."""
    parts = [HEAD]
    for industry in Industry:
        rows = [_line(api) for api in APIS if api.industry is industry]
        parts.append(
            f"## {industry}\n\n| code | call | class | scope | parameters | read |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def test_the_document_shows_the_table() -> None:
    assert DOCUMENT.read_text("utf-8") == document(), "write it again: python -m tests.providers.test_api_codes"


def test_a_code_and_a_path_name_one_call_of_an_industry() -> None:
    assert len({(api.industry, api.code) for api in APIS}) == len(APIS)
    assert len({(api.industry, api.method, api.path) for api in APIS}) == len(APIS)
    for api in APIS:
        assert by_code(api.industry, api.code) is api
        assert by_path(api.industry, api.path.replace("{card_id}", "c1"))[api.method] is api
    assert by_path("bank", "/cards") == by_path("nobody", "/accounts") == by_path("card", "/cards/") == {}


@pytest.mark.parametrize("industry", Industry)
def test_the_full_scope_of_an_industry_is_what_its_calls_want(industry: Industry) -> None:
    wanted = {api.scope for api in APIS if api.industry is industry and api.scope}
    assert set(FULL_SCOPES[industry].split()) == wanted
    assert FULL_SCOPES[industry].startswith(f"{industry}.list")


def test_only_reads_that_name_no_period_have_a_timestamp() -> None:
    for api in APIS:
        assert not (api.is_timestamped and {"from_date", "from_month"} & set(api.params)), api.code
        assert not api.scope.endswith(".list") or api.is_timestamped or api.code == "CM02"
        assert api.api_class in ApiClass


if __name__ == "__main__":
    DOCUMENT.write_text(document(), "utf-8")
