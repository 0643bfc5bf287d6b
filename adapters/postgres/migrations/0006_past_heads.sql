-- What points were: every head that another one replaced, so that a collection can be read as it was
-- at any version of its generation. What the manifests say, in a form that is read by id.
--
-- A row counts from `version` up to `until`, which is excluded. Deleted points have none.
CREATE TABLE past_heads (
    gid integer NOT NULL,
    id bytea NOT NULL,
    version integer NOT NULL,
    until integer NOT NULL,
    hash bytea NOT NULL,
    body integer NOT NULL,
    "row" integer NOT NULL,
    PRIMARY KEY (gid, id, version)
);

-- Whether the past of a generation is there. That of generations from before this table is only in
-- their manifests, until `db upgrade` has read them.
ALTER TABLE generations ADD COLUMN has_past boolean NOT NULL DEFAULT true;
UPDATE generations SET has_past = false WHERE recorded > 1;
