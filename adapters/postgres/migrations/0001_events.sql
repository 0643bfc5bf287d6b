-- The event store: events, the versions of streams, the answers to commands.

-- The last event of the ledger, in one row that an append locks and moves.
CREATE TABLE tip (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL,
    hash bytea NOT NULL,
    recorded_at timestamptz NOT NULL
) WITH (fillfactor = 10);

INSERT INTO tip (position, hash, recorded_at)
VALUES (0, decode(repeat('00', 32), 'hex'), '-infinity');

-- state and context are kept as bytes, exactly as they were hashed.
CREATE TABLE events (
    position bigint PRIMARY KEY,
    stream uuid NOT NULL,
    version integer NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    context bytea NOT NULL,
    recorded_at timestamptz NOT NULL,
    hash bytea NOT NULL,
    UNIQUE (stream, version)
);

-- Reading one kind of events in the order of positions.
CREATE INDEX events_kind ON events (split_part(topic, '.', 1), position);

CREATE TABLE streams (
    stream uuid PRIMARY KEY,
    version integer NOT NULL,
    kind text NOT NULL
) WITH (fillfactor = 80);

CREATE TABLE commands (
    key text PRIMARY KEY,
    request_hash bytea NOT NULL,
    position bigint NOT NULL,
    count integer NOT NULL
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never changed: % refused', TG_OP USING ERRCODE = '42501';
END
$$;

CREATE TRIGGER events_are_for_ever BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Also where triggers are off because rows come from replication.
ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_for_ever;

-- Appends commands in order and answers each: appended, repeated, reused or conflict. A command
-- that is not appended takes no position and does not harm the others. Events are given flat, with
-- the number of events of each command. A command without a key is not remembered.
--
-- The advisory lock comes first: it makes positions appear in the order in which transactions
-- commit, so a reader of positions misses none.
CREATE FUNCTION append(
    _keys text[],
    _request_hashes bytea[],
    _contexts bytea[],
    _counts integer[],
    _streams uuid[],
    _versions integer[],
    _topics text[],
    _states bytea[]
) RETURNS TABLE (
    outcome text,
    first_position bigint,
    event_count integer,
    conflict_stream uuid,
    conflict_expected integer,
    conflict_actual integer
) LANGUAGE plpgsql SECURITY DEFINER
-- The plans are kept, so they must be those for large tables even if they were made on empty ones.
SET search_path = migration_ledger, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    _position bigint;
    _hash bytea;
    _now timestamptz;
    _microseconds bytea;
    _known commands%ROWTYPE;
    _first integer;
    _last integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(5569203478133);
    SELECT t.position, t.hash, greatest(clock_timestamp(), t.recorded_at)
        INTO _position, _hash, _now FROM tip t FOR UPDATE;
    _microseconds := int8send((extract(epoch FROM _now) * 1000000)::bigint);

    FOR _command IN 1 .. cardinality(_counts) LOOP
        _first := _last + 1;
        _last := _last + _counts[_command];
        first_position := 0;
        event_count := 0;
        conflict_stream := NULL;
        conflict_expected := NULL;
        conflict_actual := NULL;

        SELECT c.* INTO _known FROM commands c WHERE c.key = _keys[_command];
        IF FOUND THEN
            outcome := 'reused';
            IF _known.request_hash = _request_hashes[_command] THEN
                outcome := 'repeated';
                first_position := _known.position;
                event_count := _known.count;
            END IF;
            RETURN NEXT;
            CONTINUE;
        END IF;

        SELECT e.stream, e.expected, e.actual
            INTO conflict_stream, conflict_expected, conflict_actual
            FROM (
                SELECT u.stream,
                    u.version
                    - (row_number() OVER (PARTITION BY u.stream ORDER BY u.ordinal))::integer
                    AS expected,
                    coalesce((SELECT s.version FROM streams s WHERE s.stream = u.stream), 0)
                    AS actual
                FROM unnest(_streams[_first:_last], _versions[_first:_last])
                    WITH ORDINALITY AS u (stream, version, ordinal)
            ) e
            WHERE e.expected <> e.actual
            LIMIT 1;
        IF FOUND THEN
            outcome := 'conflict';
            RETURN NEXT;
            CONTINUE;
        END IF;

        outcome := 'appended';
        event_count := _counts[_command];
        IF event_count > 0 THEN
            first_position := _position + 1;
        END IF;
        FOR _event IN _first .. _last LOOP
            _position := _position + 1;
            _hash := sha256(
                'migration-ledger/event/1'::bytea
                || _hash
                || int8send(_position)
                || uuid_send(_streams[_event])
                || int4send(_versions[_event])
                || _microseconds
                || int4send(octet_length(_topics[_event]))
                || convert_to(_topics[_event], 'UTF8')
                || int4send(octet_length(_states[_event]))
                || _states[_event]
                || int4send(octet_length(_contexts[_command]))
                || _contexts[_command]
            );
            INSERT INTO events
                (position, stream, version, topic, state, context, recorded_at, hash)
                VALUES (
                    _position, _streams[_event], _versions[_event], _topics[_event],
                    _states[_event], _contexts[_command], _now, _hash
                );
            INSERT INTO streams (stream, version, kind)
                VALUES (
                    _streams[_event], _versions[_event], split_part(_topics[_event], '.', 1)
                )
                ON CONFLICT (stream) DO UPDATE SET version = excluded.version;
        END LOOP;
        IF _keys[_command] IS NOT NULL THEN
            INSERT INTO commands (key, request_hash, position, count)
                VALUES (_keys[_command], _request_hashes[_command], first_position, event_count);
        END IF;
        RETURN NEXT;
    END LOOP;

    UPDATE tip SET position = _position, hash = _hash, recorded_at = _now;
END
$$;
