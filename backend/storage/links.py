"""Links: one row per (user, provider) with its consent's end and its sealed tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from msgspec import Struct

from backend.storage.statements import Connection, Row, Values, json_row, statement

_PAPERS = statement(
    """
    SELECT asked.place, u.person_sealed, r.status AS registration_status, r.run AS registration_run,
      i.status AS item_status, i.run AS item_run,
      c.tx_id, c.document_sealed, c.signed_sealed, c.cert_tx_id, c.ca_code, c.ends_on, c.created_at AS drawn_up_at,
      l.status AS link_status, l.consent_tx_id, l.consent_ends_on, l.consented_at, l.access_token_sealed, l.access_expires_at,
      l.refresh_token_sealed, l.refresh_expires_at, l.scope
    FROM unnest(CAST(:user_ids AS text[]), CAST(:registration_ids AS text[]), CAST(:org_codes AS text[]))
      WITH ORDINALITY AS asked(user_id, registration_id, org_code, place)
    JOIN users u ON u.user_id = asked.user_id
    JOIN registrations r ON r.user_id = u.user_id AND r.id = asked.registration_id
    JOIN registration_items i ON i.user_id = u.user_id AND i.registration_id = r.id AND i.org_code = asked.org_code
    LEFT JOIN consents c ON c.user_id = u.user_id AND c.registration_id = r.id AND c.org_code = i.org_code
      AND c.signed_sealed IS NOT NULL AND c.ends_on > :today
    LEFT JOIN links l ON l.user_id = u.user_id AND l.org_code = i.org_code
    """
)
_USABLE = statement(
    """
    SELECT org_code FROM links WHERE user_id = :user_id AND org_code = ANY(:org_codes) AND status = 'active'
      AND consent_ends_on > :today AND refresh_expires_at > :now
    """
)
_HELD = statement("SELECT * FROM links WHERE user_id = :user_id AND org_code = :org_code")
_ACTIVE = statement("SELECT org_code FROM links WHERE user_id = :user_id AND status = 'active' ORDER BY org_code")
_RENEW = statement(
    """
    UPDATE links SET access_token_sealed = :access_token_sealed, access_expires_at = :access_expires_at,
      refresh_token_sealed = :refresh_token_sealed, refresh_expires_at = :refresh_expires_at, updated_at = :updated_at
    WHERE user_id = :user_id AND org_code = :org_code AND consent_tx_id = :consent_tx_id AND status = 'active'
    """
)
_LISTED = statement("SELECT * FROM links WHERE user_id = :user_id ORDER BY org_code")
# The link is locked before its token is read: who renews one holds no user's lock, and a row that was only joined would be the one from
# before, whose token the provider has dropped.
_END = statement(
    """
    WITH was AS MATERIALIZED (
      SELECT user_id, org_code, access_token_sealed FROM links
      WHERE user_id = :user_id AND org_code = :org_code AND status = ANY(CAST(:from_status AS text[]))
        AND (CAST(:consent_tx_id AS text) IS NULL OR consent_tx_id = :consent_tx_id)
      FOR NO KEY UPDATE),
    ended AS (
      UPDATE links SET status = :status, access_token_sealed = NULL, access_expires_at = NULL, refresh_token_sealed = NULL,
        refresh_expires_at = NULL, search_timestamps = '{}', notice_on = NULL, updated_at = :now
      FROM was WHERE links.user_id = was.user_id AND links.org_code = was.org_code
      RETURNING links.consent_tx_id, links.consent_ends_on, was.access_token_sealed),
    noted AS (
      INSERT INTO consent_history (user_id, org_code, tx_id, happened, ends_on, at)
      SELECT :user_id, :org_code, consent_tx_id, :happened, consent_ends_on, :now FROM ended),
    owed AS (
      INSERT INTO revocations (user_id, org_code, token_sealed, created_at)
      SELECT :user_id, :org_code, access_token_sealed, :now FROM ended WHERE :is_owed
      ON CONFLICT (user_id, org_code) DO UPDATE SET token_sealed = coalesce(excluded.token_sealed, revocations.token_sealed),
        created_at = excluded.created_at)
    SELECT consent_ends_on FROM ended
    """
)
_DUE_FOR_NOTICE = statement("SELECT user_id, org_code FROM links WHERE notice_on <= :today ORDER BY notice_on LIMIT :limit")
_NOTE_END = statement("UPDATE links SET notice_on = consent_ends_on WHERE user_id = :user_id AND org_code = :org_code")
_ERASE_ASSETS = statement("DELETE FROM assets WHERE user_id = :user_id AND org_code = :org_code")
_ERASE_SIGNED = statement("DELETE FROM consents WHERE user_id = :user_id AND org_code = :org_code AND signed_sealed IS NOT NULL")
# Steps of a statement. Every step sees the rows as they were before it, so the history sees the consent that is about to be replaced.
# A token that was on its way while the person revoked does not bring the link back: the provider is told to end it, too.
LINKED = """offered AS (
    SELECT link.*, coalesce(known.status = 'revoked' AND NOT link.begins_anew, false) AS is_late
    FROM numbered, jsonb_to_recordset(CAST(:links AS jsonb)) AS link(org_code text, status text, consent_tx_id text,
      consent_ends_on date, consented_at timestamptz, access_token_sealed bytea, access_expires_at timestamptz,
      refresh_token_sealed bytea, refresh_expires_at timestamptz, scope text, updated_at timestamptz, begins_anew boolean)
    LEFT JOIN links known ON known.user_id = :user_id AND known.org_code = link.org_code),
  given AS (
    SELECT org_code, status, consent_tx_id, consent_ends_on, consented_at, access_token_sealed, access_expires_at,
      refresh_token_sealed, refresh_expires_at, scope, updated_at FROM offered WHERE NOT is_late),
  disowned AS (
    INSERT INTO revocations (user_id, org_code, token_sealed, created_at)
    SELECT :user_id, org_code, access_token_sealed, updated_at FROM offered WHERE is_late
    ON CONFLICT (user_id, org_code) DO UPDATE SET token_sealed = excluded.token_sealed, created_at = excluded.created_at),
  granted AS (
    INSERT INTO consent_history (user_id, org_code, tx_id, happened, ends_on, at)
    SELECT :user_id, given.org_code, given.consent_tx_id, 'granted', given.consent_ends_on, given.updated_at
    FROM given LEFT JOIN links ON links.user_id = :user_id AND links.org_code = given.org_code
    WHERE links.consent_tx_id IS DISTINCT FROM given.consent_tx_id),
  linked AS (
    INSERT INTO links (user_id, org_code, status, consent_tx_id, consent_ends_on, consented_at, access_token_sealed, access_expires_at,
      refresh_token_sealed, refresh_expires_at, scope, updated_at, created_at, notice_on)
    SELECT :user_id, given.*, given.updated_at, given.consent_ends_on - 30 FROM given
    ON CONFLICT (user_id, org_code) DO UPDATE SET status = excluded.status, consent_tx_id = excluded.consent_tx_id,
      consent_ends_on = excluded.consent_ends_on, consented_at = excluded.consented_at,
      access_token_sealed = excluded.access_token_sealed, access_expires_at = excluded.access_expires_at,
      refresh_token_sealed = excluded.refresh_token_sealed, refresh_expires_at = excluded.refresh_expires_at,
      scope = excluded.scope, updated_at = excluded.updated_at,
      search_timestamps = CASE WHEN links.consent_tx_id = excluded.consent_tx_id THEN links.search_timestamps ELSE '{}' END,
      notice_on = CASE WHEN links.consent_tx_id = excluded.consent_tx_id AND links.status = 'active' THEN links.notice_on
        ELSE excluded.notice_on END)"""
# Under a consent that was replaced meanwhile nothing was read.
READ = """done AS (
    UPDATE links SET last_refreshed_at = :now, updated_at = :now, search_timestamps = read.search_timestamps
    FROM numbered, jsonb_to_recordset(CAST(:read AS jsonb)) AS read(org_code text, consent_tx_id text, search_timestamps jsonb)
    WHERE user_id = :user_id AND links.org_code = read.org_code AND links.consent_tx_id = read.consent_tx_id)"""
_SAVE = statement(f"WITH numbered AS (SELECT), {LINKED} SELECT")


async def save(connection: Connection, user_id: str, link: Values) -> None:
    """Makes or replaces the one link of (user, provider), and notes a new consent in the history. When it was made is kept."""
    await _SAVE.run(connection, {"user_id": user_id, "links": [json_row(link)]})


class Asked(Struct, frozen=True):
    """Whose papers for which provider of which registration."""

    user_id: str
    registration_id: str
    org_code: str


async def papers(connection: Connection, asked: Sequence[Asked], today: date) -> list[Row | None]:
    """Everything that a token for a provider may be got with, in one row: who, how far, the signed consent, the link.

    The columns of a consent or a link that is not there are NULL. None: this user has no such registration, or it has no such provider.
    """
    values = {
        "user_ids": [each.user_id for each in asked],
        "registration_ids": [each.registration_id for each in asked],
        "org_codes": [each.org_code for each in asked],
        "today": today,
    }
    rows = {row["place"]: row for row in await _PAPERS.rows(connection, values)}
    return [rows.get(place) for place in range(1, len(asked) + 1)]


async def usable(connection: Connection, user_id: str, org_codes: Sequence[str], *, today: date, now: datetime) -> frozenset[str]:
    """Providers whose link can be read without another signature."""
    values = {"user_id": user_id, "org_codes": list(org_codes), "today": today, "now": now}
    return frozenset(await _USABLE.column(connection, values))


async def held(connection: Connection, user_id: str, org_code: str) -> Row | None:
    """The link's row, whatever its state; None: there never was one."""
    return await _HELD.row(connection, {"user_id": user_id, "org_code": org_code})


async def active(connection: Connection, user_id: str) -> list[str]:
    """The org_codes of this user's active links."""
    return await _ACTIVE.column(connection, {"user_id": user_id})


async def renew(connection: Connection, user_id: str, link: Values) -> bool:
    """Replaces the tokens of an active link under the same consent. False: there is none such any more."""
    return await _RENEW.run(connection, {**link, "user_id": user_id}) > 0


async def is_active(connection: Connection, user_id: str, org_code: str, *, consent_tx_id: str) -> bool:
    """Whether the link is still the one that was given for this consent."""
    found = await held(connection, user_id, org_code)
    return found is not None and found["status"] == "active" and found["consent_tx_id"] == consent_tx_id


class End(Struct, frozen=True, kw_only=True):
    """How a link ends, and which: `consent_tx_id` None: whatever consent it was given for."""

    status: str  # that it has from now on
    happened: str  # as the consent history tells it
    from_status: tuple[str, ...] = ("active",)
    consent_tx_id: str | None = None
    is_owed: bool = False  # whether the provider is still to be told


async def listed(connection: Connection, user_id: str) -> list[Row]:
    """Every link of this user, by org_code."""
    return await _LISTED.rows(connection, {"user_id": user_id})


async def end(connection: Connection, user_id: str, org_code: str, how: End, now: datetime) -> date | None:
    """Ends a link: its tokens go, the history knows. Returns when its consent would have ended; None: there was no such link."""
    values = {
        "user_id": user_id,
        "org_code": org_code,
        "status": how.status,
        "happened": how.happened,
        "from_status": list(how.from_status),
        "consent_tx_id": how.consent_tx_id,
        "is_owed": how.is_owed,
        "now": now,
    }
    ended: date | None = await _END.value(connection, values)
    return ended


async def erase_data(connection: Connection, user_id: str, org_code: str) -> None:
    """Deletes what was read from this provider, and what could still get a token from it."""
    for each in (_ERASE_ASSETS, _ERASE_SIGNED):
        await each.run(connection, {"user_id": user_id, "org_code": org_code})


async def due_for_notice(connection: Connection, *, today: date, limit: int) -> list[tuple[str, str]]:
    """(user, provider) of links whose end is to be told of by this day in Korea."""
    rows = await _DUE_FOR_NOTICE.rows(connection, {"today": today, "limit": limit})
    return [(row["user_id"], row["org_code"]) for row in rows]


async def note_end(connection: Connection, user_id: str, org_code: str) -> None:
    """The next notice is that of the end itself."""
    await _NOTE_END.run(connection, {"user_id": user_id, "org_code": org_code})
