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

-- Rows of points that no head refers to: a pack moved the point elsewhere, or it came with others
-- and changed nothing. What is there of a person has to be erased, too.
CREATE TABLE left_rows (
    gid integer NOT NULL,
    id bytea NOT NULL,
    version integer NOT NULL,
    body integer NOT NULL,
    "row" integer NOT NULL,
    erased boolean NOT NULL DEFAULT false,
    PRIMARY KEY (gid, id, version, body, "row")
);
CREATE INDEX left_rows_erased ON left_rows (body, "row") WHERE erased;
