-- What workers share: queues of ranges, leaders, cursors, read models, signs of life.

-- A row stays for every flow that was ever planned, so that planning again changes nothing.
CREATE TABLE flows (
    flow uuid PRIMARY KEY,
    next_number integer NOT NULL
);

-- free_at is when a range may be claimed: at once, after a back-off, or when its lease runs out.
CREATE TABLE flow_ranges (
    flow uuid NOT NULL,
    number integer NOT NULL,
    request jsonb NOT NULL,
    free_at timestamptz NOT NULL DEFAULT now(),
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    holder text,
    error text,
    PRIMARY KEY (flow, number)
) WITH (fillfactor = 70);

CREATE INDEX flow_ranges_free_at ON flow_ranges (free_at, number);

CREATE TABLE leaders (
    name text PRIMARY KEY,
    holder text NOT NULL,
    epoch integer NOT NULL
);

CREATE TABLE cursors (
    name text PRIMARY KEY,
    position bigint NOT NULL,
    hash bytea NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE view_builds (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    shape integer NOT NULL,
    live boolean NOT NULL DEFAULT false,
    position bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
) WITH (fillfactor = 70);

CREATE UNIQUE INDEX view_builds_live ON view_builds (name) WHERE live;

CREATE TABLE views (
    build integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (build, key)
) WITH (fillfactor = 85);

CREATE TABLE workers (
    worker text NOT NULL,
    role text NOT NULL,
    pid integer NOT NULL,
    host text NOT NULL,
    started timestamptz NOT NULL DEFAULT now(),
    seen timestamptz NOT NULL DEFAULT now(),
    detail jsonb NOT NULL,
    PRIMARY KEY (worker, role)
) WITH (fillfactor = 70);
