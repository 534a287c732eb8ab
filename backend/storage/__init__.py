"""The truth: PostgreSQL tables, the queries over them by aggregate, the outbox with its relay, the vault that encrypts."""
