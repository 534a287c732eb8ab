"""Every sealed column, and the name under which each of its values is sealed.

A value opens only under its row's own name (`vault.py`). Whoever seals asks here for the name, and so does the rotation of the keys:
a column that is missing here cannot be sealed, and one that is here is rotated. A test holds this against the tables.
"""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Column, Table

from backend.storage import tables


class Sealed(Struct, frozen=True):
    """One sealed column. `name` and the values of `key`, in this order, are the name of a row's value."""

    table: Table
    column: str
    name: tuple[str, ...]
    key: tuple[str, ...]

    def row(self, *values: str) -> tuple[str, ...]:
        """The name of the value in the row whose `key` columns have these values."""
        if len(values) != len(self.key):
            raise ValueError(f"{self.column} is named by {', '.join(self.key)}")
        return (*self.name, *values)

    @property
    def stored(self) -> Column[bytes]:
        """The column itself."""
        return self.table.c[self.column]


PERSON = Sealed(tables.users, "person_sealed", ("users", "person"), ("user_id",))
CONSENT_DOCUMENT = Sealed(tables.consents, "document_sealed", ("consents", "document"), ("user_id", "tx_id"))
CONSENT_SIGNATURE = Sealed(tables.consents, "signed_sealed", ("consents", "signature"), ("user_id", "registration_id", "org_code"))
ACCESS_TOKEN = Sealed(tables.links, "access_token_sealed", ("links", "access"), ("user_id", "org_code"))
REFRESH_TOKEN = Sealed(tables.links, "refresh_token_sealed", ("links", "refresh"), ("user_id", "org_code"))
REVOKED_TOKEN = Sealed(tables.revocations, "token_sealed", ACCESS_TOKEN.name, ("user_id", "org_code"))  # moved there from the link
WEBHOOK_SECRET = Sealed(tables.webhooks, "secret_sealed", ("webhooks", "secret"), ("id",))
WEBHOOK_OLD_SECRET = Sealed(tables.webhooks, "old_secret_sealed", ("webhooks", "old secret"), ("id",))

EVERY_SEALED: tuple[Sealed, ...] = (
    PERSON,
    CONSENT_DOCUMENT,
    CONSENT_SIGNATURE,
    ACCESS_TOKEN,
    REFRESH_TOKEN,
    REVOKED_TOKEN,
    WEBHOOK_SECRET,
    WEBHOOK_OLD_SECRET,
)
