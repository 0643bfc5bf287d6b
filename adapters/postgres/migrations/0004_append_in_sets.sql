-- Appends faster: a batch in which nothing stands against any command is written by one statement a
-- table, and a command with one event has a function without arrays.

-- The hash of an event; its form is in docs/reference/event-hash.md. Where it is called, it becomes
-- part of the calling expression.
CREATE FUNCTION event_hash(
    _previous bytea,
    _position bigint,
    _stream uuid,
    _version integer,
    _microseconds bigint,
    _topic text,
    _state bytea,
    _context bytea
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
RETURN sha256(
    'migration-ledger/event/1'::bytea
    || _previous
    || int8send(_position)
    || uuid_send(_stream)
    || int4send(_version)
    || int8send(_microseconds)
    || int4send(octet_length(_topic))
    || convert_to(_topic, 'UTF8')
    || int4send(octet_length(_state))
    || _state
    || int4send(octet_length(_context))
    || _context
);

-- Appends commands in order and answers each: appended, repeated, reused or conflict. A command
-- that is not appended takes no position and does not harm the others; a command sees what those
-- before it have done. Events are given flat, with the number of events of each command. A command
-- without a key is not remembered.
--
-- The advisory lock comes first: it makes positions appear in the order in which transactions
-- commit, so a reader of positions misses none. It also keeps the tip as it was read.
--
-- What does not fit as a whole is appended half by half, so that only the commands with something
-- against them are looked at one by one.
CREATE OR REPLACE FUNCTION append(
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
    _before bigint;
    _position bigint;
    _hash bytea;
    _now timestamptz;
    _microseconds bigint;
    _fits boolean;
    _half integer;
    _half_events integer;
    _known commands%ROWTYPE;
    _event integer := 0;
    _hashes bytea[];
    _commands integer[];
    _firsts bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(5569203478133);

    -- Every key is new, and every version follows that of the same stream before it: in the batch,
    -- or else in the ledger.
    SELECT t.position, t.hash, greatest(clock_timestamp(), t.recorded_at),
        NOT EXISTS (SELECT FROM commands c WHERE c.key = ANY (_keys))
        AND NOT EXISTS (
            SELECT FROM (
                SELECT _versions[i] AS version, 1 + coalesce(
                        lag(_versions[i]) OVER (PARTITION BY _streams[i] ORDER BY i),
                        (SELECT s.version FROM streams s WHERE s.stream = _streams[i]),
                        0
                    ) AS following
                FROM generate_series(1, cardinality(_streams)) i
            ) e
            WHERE e.version <> e.following
        )
        INTO _before, _hash, _now, _fits FROM tip t;

    IF NOT _fits AND cardinality(_counts) > 1 THEN
        _half := cardinality(_counts) / 2;
        _half_events := (SELECT sum(c) FROM unnest(_counts[:_half]) c);
        RETURN QUERY SELECT * FROM append(
            _keys[:_half], _request_hashes[:_half], _contexts[:_half], _counts[:_half],
            _streams[:_half_events], _versions[:_half_events],
            _topics[:_half_events], _states[:_half_events]
        );
        RETURN QUERY SELECT * FROM append(
            _keys[_half + 1:], _request_hashes[_half + 1:],
            _contexts[_half + 1:], _counts[_half + 1:],
            _streams[_half_events + 1:], _versions[_half_events + 1:],
            _topics[_half_events + 1:], _states[_half_events + 1:]
        );
        RETURN;
    END IF;

    IF NOT _fits THEN
        first_position := 0;
        event_count := 0;
        SELECT c.* INTO _known FROM commands c WHERE c.key = _keys[1];
        IF NOT FOUND THEN
            outcome := 'conflict';
            SELECT e.stream, e.expected, e.actual
                INTO conflict_stream, conflict_expected, conflict_actual
                FROM (
                    SELECT i, _streams[i] AS stream,
                        _versions[i]
                        - (row_number() OVER (PARTITION BY _streams[i] ORDER BY i))::integer
                        AS expected,
                        coalesce((SELECT s.version FROM streams s WHERE s.stream = _streams[i]), 0)
                        AS actual
                    FROM generate_series(1, cardinality(_streams)) i
                ) e
                WHERE e.expected <> e.actual
                ORDER BY e.i LIMIT 1;
        ELSIF _known.request_hash = _request_hashes[1] THEN
            outcome := 'repeated';
            first_position := _known.position;
            event_count := _known.count;
        ELSE
            outcome := 'reused';
        END IF;
        RETURN NEXT;
        RETURN;
    END IF;

    _position := _before;
    _microseconds := extract(epoch FROM _now) * 1000000;
    FOR _command IN 1 .. cardinality(_counts) LOOP
        _firsts[_command] := CASE WHEN _counts[_command] > 0 THEN _position + 1 ELSE 0 END;
        FOR _ IN 1 .. _counts[_command] LOOP
            _event := _event + 1;
            _position := _position + 1;
            _hash := event_hash(
                _hash, _position, _streams[_event], _versions[_event], _microseconds,
                _topics[_event], _states[_event], _contexts[_command]
            );
            _hashes[_event] := _hash;
            _commands[_event] := _command;
        END LOOP;
    END LOOP;

    INSERT INTO events (position, stream, version, topic, state, context, recorded_at, hash)
        SELECT _before + i, _streams[i], _versions[i], _topics[i], _states[i],
            _contexts[_commands[i]], _now, _hashes[i]
        FROM generate_series(1, cardinality(_streams)) i;
    INSERT INTO streams (stream, version, kind)
        SELECT DISTINCT ON (_streams[i]) _streams[i], _versions[i], split_part(_topics[i], '.', 1)
        FROM generate_series(1, cardinality(_streams)) i
        ORDER BY _streams[i], i DESC
        ON CONFLICT (stream) DO UPDATE SET version = excluded.version;
    INSERT INTO commands (key, request_hash, position, count)
        SELECT _keys[i], _request_hashes[i], _firsts[i], _counts[i]
        FROM generate_series(1, cardinality(_counts)) i
        WHERE _keys[i] IS NOT NULL;
    UPDATE tip SET position = _position, hash = _hash, recorded_at = _now;
    RETURN QUERY
        SELECT 'appended', _firsts[i], _counts[i], NULL::uuid, NULL::integer, NULL::integer
        FROM generate_series(1, cardinality(_counts)) i;
END
$$;

-- Appends a command with one event and returns its position. NULL if something stands against it;
-- append() says what.
CREATE FUNCTION append_one(
    _key text,
    _request_hash bytea,
    _context bytea,
    _stream uuid,
    _version integer,
    _topic text,
    _state bytea
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = migration_ledger, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    _position bigint;
    _hash bytea;
    _now timestamptz;
    _fits boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(5569203478133);
    SELECT t.position + 1, t.hash, greatest(clock_timestamp(), t.recorded_at),
        NOT EXISTS (SELECT FROM commands c WHERE c.key = _key)
        AND _version = 1
            + coalesce((SELECT s.version FROM streams s WHERE s.stream = _stream), 0)
        INTO _position, _hash, _now, _fits FROM tip t;
    IF NOT _fits THEN
        RETURN NULL;
    END IF;
    _hash := event_hash(
        _hash, _position, _stream, _version, (extract(epoch FROM _now) * 1000000)::bigint,
        _topic, _state, _context
    );
    INSERT INTO events (position, stream, version, topic, state, context, recorded_at, hash)
        VALUES (_position, _stream, _version, _topic, _state, _context, _now, _hash);
    INSERT INTO streams (stream, version, kind)
        VALUES (_stream, _version, split_part(_topic, '.', 1))
        ON CONFLICT (stream) DO UPDATE SET version = excluded.version;
    IF _key IS NOT NULL THEN
        INSERT INTO commands (key, request_hash, position, count)
            VALUES (_key, _request_hash, _position, 1);
    END IF;
    UPDATE tip SET position = _position, hash = _hash, recorded_at = _now;
    RETURN _position;
END
$$;

-- Who may append a batch may append one command.
DO $$
DECLARE
    _grantee oid;
BEGIN
    REVOKE EXECUTE ON FUNCTION append_one FROM PUBLIC;
    FOR _grantee IN
        SELECT a.grantee
        FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.oid = 'append'::regproc AND a.grantee <> p.proowner
    LOOP
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION append_one TO %s',
            CASE _grantee WHEN 0 THEN 'PUBLIC' ELSE _grantee::regrole::text END
        );
    END LOOP;
END
$$;
