-- What the ledger says of generations: where they stand, what their points are, who applies them.

-- Small objects by SHA-256: manifests of change sets, and bodies that are small. Parquet compresses
-- what can be compressed, so the database does not try again.
CREATE TABLE objects (
    address bytea PRIMARY KEY,
    content bytea NOT NULL
);
ALTER TABLE objects ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE generations (
    stream uuid PRIMARY KEY,
    gid integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    collection text NOT NULL,
    store text NOT NULL,
    physical text NOT NULL,
    number integer NOT NULL,
    recorded integer NOT NULL,
    points bigint NOT NULL DEFAULT 0,
    gone boolean NOT NULL DEFAULT false
) WITH (fillfactor = 70);

-- Addresses of bodies, numbered, so that a head names its body in four bytes.
CREATE TABLE bodies (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address bytea NOT NULL UNIQUE
);

-- What a point is now; a row without hash is a tombstone.
CREATE TABLE heads (
    gid integer NOT NULL,
    id bytea NOT NULL,
    hash bytea,
    body integer,
    "row" integer,
    version integer NOT NULL,
    PRIMARY KEY (gid, id)
) WITH (fillfactor = 85);

CREATE TABLE applications (
    generation uuid PRIMARY KEY REFERENCES generations (stream),
    applied integer NOT NULL DEFAULT 0,
    halted_at integer,
    holder text,
    epoch integer NOT NULL DEFAULT 0,
    lease_until timestamptz,
    released boolean NOT NULL DEFAULT true
) WITH (fillfactor = 70);

CREATE INDEX applications_holder ON applications (holder) WHERE NOT released;
