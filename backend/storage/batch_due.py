"""Which links the batch still has to read in a week: one condition, for whoever counts them, finds a range of them, or sends them.

In: a week and how often what is tried again. Out: a piece of SQL over a row `link` of `links`, and its values. What is done, or is given
up for this week, has its `due_on` in the next one; the condition keeps what was given up out even where that has not happened yet.
"""

from __future__ import annotations

from datetime import date, datetime

from msgspec import Struct, structs

from backend.storage.statements import Values

# The parameters are the fields of `Due`, and the provider. A link that its person has refreshed (`fresh_since`) or that is younger than
# `ripe_before` is left alone; NULL: none is. Not `NOT EXISTS`: that may be planned as a join with everything that was tried in the week,
# while a subquery is looked up for the few links that are wanted. And not `IS NULL`: PostgreSQL guesses that to be true of one in two
# hundred, and would rather ask it of all links and sort what is left than go along the index until there are enough. Of this: of half.
RIPE = """link.org_code = :org_code AND link.status = 'active' AND link.due_on <= :due_by
    AND (CAST(:fresh_since AS timestamptz) IS NULL OR link.last_refreshed_at IS NULL OR link.last_refreshed_at < :fresh_since)
    AND (CAST(:ripe_before AS timestamptz) IS NULL OR link.last_refreshed_at IS NULL OR link.last_refreshed_at < :ripe_before)"""
STILL_DUE = f"""{RIPE}
    AND NOT coalesce((
      SELECT true FROM batch_refreshes tried
      WHERE tried.user_id = link.user_id AND tried.org_code = link.org_code AND tried.week = :week
        AND (tried.state IN ('sent', 'recorded', 'left')
          OR tried.attempt >= CASE tried.state WHEN 'unknown' THEN CAST(:unknown_attempts AS integer) ELSE :attempts END)), false)"""  # noqa: S608  # constants


class Due(Struct, frozen=True, kw_only=True):
    """What a week asks for."""

    week: date  # its Sunday
    due_by: date  # its Saturday: links due later are another week's
    attempts: int  # most of a link that fails
    unknown_attempts: int  # most of a link of which it is not known how the last one ended; 1: it is not tried again
    fresh_since: datetime | None = None  # links that were read to the end since then need nothing; None: they do
    ripe_before: datetime | None = None  # links that were read to the end since then are too young; None: none is

    def values(self, org_code: str) -> Values:
        """Of the parameters."""
        return {**structs.asdict(self), "org_code": org_code}
