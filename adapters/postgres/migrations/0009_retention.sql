-- Which versions of a generation are archived: those before `archived_before`, but for some that are
-- kept. Nobody goes back to an archived version, so bodies that only such versions refer to may go.
ALTER TABLE generations
    ADD COLUMN archived_before integer NOT NULL DEFAULT 0,
    ADD COLUMN kept_versions integer[] NOT NULL DEFAULT '{}';

-- What is to become of a body, NULL if it stays: `condemned` as nothing that is kept refers to it,
-- `collected` when it may not be named any more, `deleted` when its object is gone.
ALTER TABLE bodies
    ADD COLUMN fate text CHECK (fate IN ('condemned', 'collected', 'deleted')),
    ADD COLUMN fate_at timestamptz;
CREATE INDEX bodies_fate ON bodies (fate, fate_at) WHERE fate IN ('condemned', 'collected');
