"""How a registration looks in a terminal, and as plain lines where there is none.

In: a `Progress` and the moment. Out: rich renderables, or lines. Widths are counted in cells: Korean letters take two. RULE: pure.
Numbers are masked before they come here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from backend.cli.progress import Event, Progress, Row, Shown

INDUSTRIES = {
    "bank": "은행 bank",
    "card": "카드 card",
    "invest": "투자 invest",
    "insu": "보험 insu",
    "efin": "전금 efin",
    "capital": "대출 capital",
    "telecom": "통신 telecom",
}
_LOOKS = {
    "waiting": ("·", "dim"),
    "connecting": ("", "cyan"),
    "collecting": ("", "blue"),
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "deferred": ("…", "yellow"),
    "cancelled": ("–", "dim"),
}
_STARS = re.compile(r"\*{5,}")  # a narrow terminal has no room for all of them
_SYMBOLS = {"KRW": "원"}
# What an asset without a balance tells instead: the detail, and the word behind the figure.
_INSTEAD = {"point": ("remain_point_amt", "P"), "insurance": ("pay_amt", "원 premium"), "telecom": ("charge_amt", "원 bill")}


def live(progress: Progress, spinner: Spinner, now: float) -> RenderableType:
    """What is redrawn while results arrive."""
    grid = Table.grid(padding=(0, 2))
    for name in ("", "", "", "", "assets", "since"):
        grid.add_column(justify="right" if name else "left", no_wrap=True)
    for row in progress.rows.values():
        mark, style = _LOOKS.get(row.status, ("?", ""))
        grid.add_row(
            Text(mark, style) if mark else spinner,
            Text(row.name),
            Text(INDUSTRIES.get(row.industry, row.industry), "dim"),
            Text(row.error.code if row.error else row.status, style),
            Text(str(row.assets) if row.assets else "", "bold"),
            Text(_since(progress, row, now), "dim"),
        )
    return Group(_headline(progress, spinner, now), grid)


def _headline(progress: Progress, spinner: Spinner, now: float) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    if progress.over is not None:
        words = Text(progress.status, "bold")
    elif progress.status == "collecting":
        words = Text.assemble(
            ("collecting", "bold"), f"  {sum(row.ended is not None for row in progress.rows.values())}/{len(progress.rows)}"
        )
    elif progress.signature.web_url:
        words = Text.assemble(
            ("waiting for the signature", "bold"), f"  {_ms(now - progress.accepted)}  sign at  ", progress.signature.web_url
        )
    else:
        words = Text("asking for the signature", "bold")
    line.add_row(Text(" ") if progress.over is not None else spinner, words)
    return line


def _since(progress: Progress, row: Row, now: float) -> str:
    """Milliseconds from the signature to the end of this provider, or to now."""
    if progress.signed is None or row.status == "waiting":
        return ""
    return f"+{_ms((now if row.ended is None else row.ended) - progress.signed)}"


def accepted_line(progress: Progress) -> str:
    """The first plain line."""
    return f"{'accepted':14} {_ms(progress.accepted - progress.asked):>9}  {progress.id}, {len(progress.rows)} providers"


def plain_line(progress: Progress, event: Event, now: float) -> str | None:
    """One event as a line; `progress` has it already. None: nothing that a person wants to read."""
    if event.type == "signature.requested":
        return f"{'signature':14} {'':>9}  requested: {progress.signature.web_url}"
    if event.type.startswith("signature."):
        return f"{'signature':14} {_ms(now - progress.accepted):>9}  {progress.signature.status}"
    row = progress.rows.get(event.org_code)
    if row is None or not event.type.startswith("provider."):
        return None
    words = row.error.code if row.error else row.status
    counted = f", {_counted(row.assets)}" if row.status in {"collecting", "completed"} else ""
    return f"{_padded(row.name, 14)} {_since(progress, row, now):>9}  {words}{counted}"


def assets_table(progress: Progress) -> Table:
    """Every asset, grouped by industry in the order of `INDUSTRIES`."""
    table = Table("", "provider", "asset", "kind", "number", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("balance", justify="right", no_wrap=True)
    for industry, title in INDUSTRIES.items():
        group = [(row, asset) for row in progress.rows.values() if row.industry == industry for asset in _of(progress, row)]
        for place, (row, asset) in enumerate(group):
            number = _STARS.sub("****", asset.number_masked)
            cells = (title.split()[0] if place == 0 else "", row.name, asset.name, asset.kind, number, worth(asset))
            table.add_row(*(Text(cell) for cell in cells))  # Text: brackets are no markup
        if group:
            table.add_section()
    return table


def _of(progress: Progress, row: Row) -> Iterator[Shown]:
    return (asset for asset in progress.assets.values() if asset.org_code == row.org_code)


def worth(asset: Shown) -> str:
    """The balance; for what has none, the figure that people look for."""
    if asset.balance is not None:
        return f"{_grouped(asset.balance.amount)}{_SYMBOLS.get(asset.balance.currency, ' ' + asset.balance.currency)}"
    name, unit = _INSTEAD.get(asset.kind, ("", ""))
    figure = asset.details.get(name)
    return f"{_grouped(str(figure))}{unit}" if figure is not None else "-"


def _grouped(amount: str) -> str:
    try:
        return f"{Decimal(amount):,f}".removesuffix(".00")
    except InvalidOperation:
        return amount


def timings(progress: Progress) -> Table:
    """What took how long, as this client saw it."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()

    def add(name: str, seconds: float | None, words: str, sign: str = "") -> None:
        if seconds is not None:
            table.add_row(name, sign + _ms(seconds), Text(words, "dim"))

    add("accepted", progress.accepted - progress.asked, "from the request to its 202")
    if progress.signed is not None:
        add("signature", progress.signed - progress.accepted, "from there to the person's signature")
        first = progress.first_asset
        if first is not None and first.first_asset is not None:
            add("first asset", first.first_asset - progress.signed, f"after the signature: {first.name}", "+")
        ends = [row for row in progress.rows.values() if row.ended is not None]
        last = max(ends, key=lambda row: row.ended or 0.0, default=None)
        if last is not None and last.ended is not None:
            add("last provider", last.ended - progress.signed, f"after the signature: {last.name}", "+")
    if progress.over is not None:
        add("all in all", progress.over - progress.asked, f"{_counted(len(progress.assets))} of {len(progress.rows)} providers")
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _counted(assets: int) -> str:
    return "1 asset" if assets == 1 else f"{assets} assets"


def _padded(text: str, cells: int) -> str:
    return text + " " * max(0, cells - cell_len(text))
