"""A week of users and batch as a picture. RULE: SVG from values.

In: panels of bars with their names. Out: one document of stacked bars, which needs no script, no font and no other file, and reads in
light and in dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from msgspec import Struct

from backend.batch.rehearsal import Pile

WIDTH, HEIGHT = 960, 300  # of a panel
_LEFT, _TOP, _BOTTOM, _RIGHT = 80, 64, 40, 24
_USERS, _BATCH = "#4c78a8", "#f58518"
_LINES = 4
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.small{font-size:11px;fill:#57606a}.title{font-size:16px;font-weight:600}"
    ".grid{stroke:#8c959f;stroke-opacity:.35}.mean{stroke:#cf222e;stroke-dasharray:6 4}.ground{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9da7b3}.ground{fill:#0d1117}}"
)


class Bar(Struct, frozen=True):
    """One stretch of time."""

    name: str  # under it; empty: none
    about: str  # what a pointer that rests on it is told
    pile: Pile


class Panel(Struct, frozen=True):
    """Bars beside each other."""

    title: str
    bars: tuple[Bar, ...]


def picture(panels: Sequence[Panel]) -> str:
    """One SVG document."""
    height = HEIGHT * len(panels)
    drawn = "".join(f'<g transform="translate(0 {HEIGHT * number})">{_panel(panel)}</g>' for number, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
        f"<title>{escape(panels[0].title)}</title><style>{_STYLE}</style>"
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>{drawn}</svg>\n'
    )


def _panel(panel: Panel) -> str:
    highest = max((bar.pile.calls for bar in panel.bars), default=0.0) or 1.0
    step = (WIDTH - _LEFT - _RIGHT) / max(len(panel.bars), 1)
    bars = "".join(_bar(bar, _LEFT + number * step, step, highest) for number, bar in enumerate(panel.bars))
    mean = sum(bar.pile.calls for bar in panel.bars) / max(len(panel.bars), 1)
    return f'<text class="title" x="{_LEFT}" y="24">{escape(panel.title)}</text>{_legend()}{_grid(highest)}{bars}{_mean(mean, highest)}'


def _bar(bar: Bar, x: float, step: float, highest: float) -> str:
    top, middle, ground = _y(bar.pile.calls, highest), _y(bar.pile.users, highest), _y(0, highest)
    gap = step * 0.12
    where = f'x="{x + gap:.1f}" width="{step - 2 * gap:.1f}"'
    return (
        f"<g><title>{escape(bar.about)}</title>"
        f'<rect {where} y="{middle:.1f}" height="{ground - middle:.1f}" fill="{_USERS}"/>'
        f'<rect {where} y="{top:.1f}" height="{middle - top:.1f}" fill="{_BATCH}"/></g>'
        f'<text x="{x + step / 2:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{escape(bar.name)}</text>'
    )


def _grid(highest: float) -> str:
    return "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{_y(value, highest):.1f}" y2="{_y(value, highest):.1f}"/>'
        f'<text class="small" x="{_LEFT - 8}" y="{_y(value, highest) + 4:.1f}" text-anchor="end">{short(value)}</text>'
        for value in (highest * line / _LINES for line in range(_LINES + 1))
    )


def _mean(mean: float, highest: float) -> str:
    y = _y(mean, highest)
    return (
        f'<line class="mean" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"><title>mean: {short(mean)} calls</title></line>'
    )


def _legend() -> str:
    parts = (("users", _USERS), ("batch", _BATCH), ("- - mean", None))
    drawn = ""
    for number, (name, colour) in enumerate(parts):
        x = _LEFT + number * 90
        drawn += f'<rect x="{x}" y="36" width="12" height="12" fill="{colour}"/>' if colour else ""
        drawn += f'<text class="small" x="{x + 18 if colour else x}" y="46">{name}</text>'
    return drawn


def short(value: float) -> str:
    """`2.3M`, `940k`, `12`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _y(value: float, highest: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / highest
