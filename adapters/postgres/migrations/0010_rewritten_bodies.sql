-- What erasures leave: which heads and past heads are erased, and which bodies are there instead of
-- which. Made from the events of erasures.

-- Heads that were erased, out of `heads` and `past_heads`, so that no version has them. A row counted
-- from `version` up to `until`, which is excluded. Its body has nothing at this row any more, or will
-- not have it soon.
CREATE TABLE erased (
    gid integer NOT NULL,
    id bytea NOT NULL,
    version integer NOT NULL,
    until integer NOT NULL,
    hash bytea NOT NULL,
    body integer NOT NULL,
    "row" integer NOT NULL,
    PRIMARY KEY (gid, id, version)
);

CREATE INDEX erased_rows ON erased (body, "row");

-- Addresses that bodies had before they were rewritten. Rows of a body stay where they are, so its
-- number stays too, and heads need not know.
CREATE TABLE rewritten (
    address bytea PRIMARY KEY,
    body integer NOT NULL
);

-- Bodies that have erased rows and are not rewritten yet.
ALTER TABLE bodies ADD COLUMN erasing boolean NOT NULL DEFAULT false;
CREATE INDEX bodies_erasing ON bodies (id) WHERE erasing;

-- Who records locks the bodies that it refers to, and needs the right to update them for that.
DO $$
DECLARE
    _grantee oid;
BEGIN
    FOR _grantee IN
        SELECT DISTINCT a.grantee
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = 'bodies'::regclass AND a.privilege_type = 'INSERT'
            AND a.grantee <> c.relowner
    LOOP
        EXECUTE format(
            'GRANT UPDATE (fate, fate_at, erasing) ON bodies TO %1$s; '
            'GRANT DELETE ON objects TO %1$s; '
            'GRANT SELECT ON erased, rewritten TO %1$s; GRANT SELECT, INSERT ON left_rows TO %1$s',
            CASE _grantee WHEN 0 THEN 'PUBLIC' ELSE _grantee::regrole::text END
        );
    END LOOP;
END
$$;

-- Whoever is not the owner deletes only bodies that were given up, or what was under their former
-- addresses; to others a manifest, or a body that somebody needs, is not there to be deleted.
ALTER TABLE objects ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody_reads ON objects FOR SELECT USING (true);
CREATE POLICY everybody_writes ON objects FOR INSERT WITH CHECK (true);
CREATE POLICY what_is_needed_stays ON objects FOR DELETE USING (
    EXISTS (
        SELECT FROM bodies b
        WHERE b.address = objects.address AND b.fate IN ('collected', 'deleted')
    )
    OR EXISTS (SELECT FROM rewritten r WHERE r.address = objects.address)
);
