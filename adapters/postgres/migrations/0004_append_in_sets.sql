-- Appends faster: a batch is written by one statement a table, and a command with one event has a
-- function without arrays.

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
-- What is looked up and what is written is so for the whole batch; command by command it is only
-- decided, with the versions of the batch's streams at hand, and hashed.
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
    -- Some key was answered before.
    _repeats boolean;
    _known commands%ROWTYPE;
    -- The number of each event's stream among those of the batch, and where these streams are.
    _numbers integer[];
    _current integer[];
    _number integer;
    -- The events of a command.
    _first integer;
    _last integer := 0;
    -- What is appended: events, each with its hash and its command; commands, each with the
    -- position of its first event.
    _count integer := 0;
    _events integer[];
    _hashes bytea[];
    _commands integer[];
    _appended integer[];
    _positions bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(5569203478133);
    SELECT t.position, t.hash, greatest(clock_timestamp(), t.recorded_at),
        EXISTS (SELECT FROM commands c WHERE c.key = ANY (_keys))
        INTO _before, _hash, _now, _repeats FROM tip t;
    SELECT array_agg(e.number ORDER BY e.i) INTO _numbers
        FROM (
            SELECT i, dense_rank() OVER (ORDER BY _streams[i])::integer AS number
            FROM generate_series(1, cardinality(_streams)) i
        ) e;
    SELECT array_agg(
            coalesce((SELECT s.version FROM streams s WHERE s.stream = u.stream), 0)
            ORDER BY u.stream
        ) INTO _current
        FROM (SELECT DISTINCT stream FROM unnest(_streams) AS stream) u;
    _position := _before;
    _microseconds := extract(epoch FROM _now) * 1000000;

    <<each_command>>
    FOR _command IN 1 .. cardinality(_counts) LOOP
        _first := _last + 1;
        _last := _last + _counts[_command];
        first_position := 0;
        event_count := 0;
        conflict_stream := NULL;
        conflict_expected := NULL;
        conflict_actual := NULL;

        IF _repeats THEN
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
        END IF;

        FOR _event IN _first .. _last LOOP
            _number := _numbers[_event];
            IF _versions[_event] <> _current[_number] + 1 THEN
                outcome := 'conflict';
                conflict_stream := _streams[_event];
                conflict_expected := _versions[_event] - 1 - _current[_number];
                FOR _undone IN REVERSE _event - 1 .. _first LOOP
                    _current[_numbers[_undone]] := _versions[_undone] - 1;
                END LOOP;
                conflict_actual := _current[_number];
                conflict_expected := conflict_expected + conflict_actual;
                RETURN NEXT;
                CONTINUE each_command;
            END IF;
            _current[_number] := _versions[_event];
        END LOOP;

        outcome := 'appended';
        event_count := _counts[_command];
        IF event_count > 0 THEN
            first_position := _position + 1;
        END IF;
        FOR _event IN _first .. _last LOOP
            _position := _position + 1;
            _hash := event_hash(
                _hash, _position, _streams[_event], _versions[_event], _microseconds,
                _topics[_event], _states[_event], _contexts[_command]
            );
            _count := _count + 1;
            _events[_count] := _event;
            _hashes[_count] := _hash;
            _commands[_count] := _command;
        END LOOP;
        _appended := _appended || _command;
        _positions := _positions || first_position;
        RETURN NEXT;
    END LOOP;

    INSERT INTO events (position, stream, version, topic, state, context, recorded_at, hash)
        SELECT _before + i, _streams[_events[i]], _versions[_events[i]], _topics[_events[i]],
            _states[_events[i]], _contexts[_commands[i]], _now, _hashes[i]
        FROM generate_series(1, _count) i;
    INSERT INTO streams (stream, version, kind)
        SELECT DISTINCT ON (_numbers[_events[i]])
            _streams[_events[i]], _versions[_events[i]], split_part(_topics[_events[i]], '.', 1)
        FROM generate_series(1, _count) i
        ORDER BY _numbers[_events[i]], i DESC
        ON CONFLICT (stream) DO UPDATE SET version = excluded.version;
    INSERT INTO commands (key, request_hash, position, count)
        SELECT _keys[a.command], _request_hashes[a.command], a.position, _counts[a.command]
        FROM unnest(_appended, _positions) AS a (command, position)
        WHERE _keys[a.command] IS NOT NULL;
    UPDATE tip SET position = _position, hash = _hash, recorded_at = _now;
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
