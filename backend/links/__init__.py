"""How links live on once they are there, and how they end: read again, revoked, expired, forgotten with their person."""
