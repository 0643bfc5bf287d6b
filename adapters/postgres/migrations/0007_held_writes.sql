-- Migrations that hold the writes of applications to a generation: while there is one, a live write is
-- refused in the transaction that would record it.
ALTER TABLE generations ADD COLUMN holders text[] NOT NULL DEFAULT '{}';
