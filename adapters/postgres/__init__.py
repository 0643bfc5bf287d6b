"""The ledger, heads, cursors, leases and views in PostgreSQL, through asyncpg."""
