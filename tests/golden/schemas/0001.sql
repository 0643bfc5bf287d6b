SET check_function_bodies = false;

CREATE SCHEMA migration_ledger;

CREATE FUNCTION migration_ledger.append(_keys text[], _request_hashes bytea[], _contexts bytea[], _counts integer[], _streams uuid[], _versions integer[], _topics text[], _states bytea[]) RETURNS TABLE(outcome text, first_position bigint, event_count integer, conflict_stream uuid, conflict_expected integer, conflict_actual integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'migration_ledger', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
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

CREATE FUNCTION migration_ledger.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'events are never changed: % refused', TG_OP USING ERRCODE = '42501';
END
$$;

CREATE TABLE migration_ledger.commands (
    key text NOT NULL,
    request_hash bytea NOT NULL,
    "position" bigint NOT NULL,
    count integer NOT NULL
);

CREATE TABLE migration_ledger.events (
    "position" bigint NOT NULL,
    stream uuid NOT NULL,
    version integer NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    context bytea NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    hash bytea NOT NULL
);

CREATE TABLE migration_ledger.schema_versions (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE migration_ledger.streams (
    stream uuid NOT NULL,
    version integer NOT NULL,
    kind text NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE migration_ledger.tip (
    only_row boolean DEFAULT true NOT NULL,
    "position" bigint NOT NULL,
    hash bytea NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT tip_only_row_check CHECK (only_row)
)
WITH (fillfactor='10');

INSERT INTO migration_ledger.commands VALUES ('one', '\x68dbff07f386cc00e76b973d48128f3e809a4e4294b5a728aee886517e7a5958', 1, 3);
INSERT INTO migration_ledger.commands VALUES ('nothing', '\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 0, 0);
INSERT INTO migration_ledger.commands VALUES ('two', '\x9f6d009c4e223f96d21d7c515c1d6a774b065d11c5932caf0b289e8fbba2a21c', 4, 3);
INSERT INTO migration_ledger.commands VALUES ('flow', '\xc637abf29b5edf2eec8c2d4a98cbb3310fe886f57b7b30a6cc759b071ca05d91', 7, 1);

INSERT INTO migration_ledger.events VALUES (1, '1669e68d-ed8a-5796-8502-cd1ee450de67', 1, 'application.created', '\x7b2267656e65726174696f6e223a2230303030303030302d303030302d303030302d303030302d303030303030303030303031222c226f726967696e61746f725f746f706963223a226170706c69636174696f6e222c22706879736963616c223a22646f63735f5f6731227d', '\x7b226163746f72223a226d617261222c226163746f725f65737461626c6973686564223a226f732d75736572222c22636175736174696f6e5f6964223a22222c22636f7272656c6174696f6e5f6964223a22632d31222c22726561736f6e223a2262656361757365227d', '2026-11-21 06:32:29.282448+00', '\x44b0ddafec2f232dacbb1bb8bcf18db578a6d5d1e3f2014c122c77c7d6f7ea5c');
INSERT INTO migration_ledger.events VALUES (2, '1669e68d-ed8a-5796-8502-cd1ee450de67', 2, 'application.changes-applied', '\x7b22706f696e7473223a31302c227468726f756768223a317d', '\x7b226163746f72223a226d617261222c226163746f725f65737461626c6973686564223a226f732d75736572222c22636175736174696f6e5f6964223a22222c22636f7272656c6174696f6e5f6964223a22632d31222c22726561736f6e223a2262656361757365227d', '2026-11-21 06:32:29.282448+00', '\x28d06cbc0179439f87ee55755544ac160ba9e6dd31258a701730cf2a1cc7f829');
INSERT INTO migration_ledger.events VALUES (3, '1669e68d-ed8a-5796-8502-cd1ee450de67', 3, 'application.changes-applied', '\x7b22706f696e7473223a31302c227468726f756768223a327d', '\x7b226163746f72223a226d617261222c226163746f725f65737461626c6973686564223a226f732d75736572222c22636175736174696f6e5f6964223a22222c22636f7272656c6174696f6e5f6964223a22632d31222c22726561736f6e223a2262656361757365227d', '2026-11-21 06:32:29.282448+00', '\xddb0fbb616e9686f9bb657507a5c7fa941e40b58eec73dd39d55a4f82c6d1627');
INSERT INTO migration_ledger.events VALUES (4, '1e220a00-c28b-5da7-b629-96139f839d03', 1, 'application.created', '\x7b2267656e65726174696f6e223a2230303030303030302d303030302d303030302d303030302d303030303030303030303032222c226f726967696e61746f725f746f706963223a226170706c69636174696f6e222c22706879736963616c223a22646f63735f5f6731227d', '\x7b226163746f72223a226d617261222c226163746f725f65737461626c6973686564223a226f732d75736572222c22636175736174696f6e5f6964223a22222c22636f7272656c6174696f6e5f6964223a22632d31222c22726561736f6e223a2262656361757365227d', '2026-11-21 06:32:29.286825+00', '\x5c54a0cecc3d988e44305cea878ffcd42a1f50ea94f58cf1c5b5eaf7e8802793');
INSERT INTO migration_ledger.events VALUES (5, '04dc0fce-d413-5500-9833-a1a4bf960622', 1, 'application.created', '\x7b2267656e65726174696f6e223a2230303030303030302d303030302d303030302d303030302d303030303030303030303033222c226f726967696e61746f725f746f706963223a226170706c69636174696f6e222c22706879736963616c223a22646f63735f5f6731227d', '\x7b226163746f72223a226d617261222c226163746f725f65737461626c6973686564223a226f732d75736572222c22636175736174696f6e5f6964223a22222c22636f7272656c6174696f6e5f6964223a22632d31222c22726561736f6e223a2262656361757365227d', '2026-11-21 06:32:29.286825+00', '\x305d8f8394533fca978e5e0fe5b119c63029ce2a737f9169d56c720615caa88b');
INSERT INTO migration_ledger.events VALUES (6, '04dc0fce-d413-5500-9833-a1a4bf960622', 2, 'application.changes-applied', '\x7b22706f696e7473223a31302c227468726f756768223a317d', '\x7b226163746f72223a226d617261222c226163746f725f65737461626c6973686564223a226f732d75736572222c22636175736174696f6e5f6964223a22222c22636f7272656c6174696f6e5f6964223a22632d31222c22726561736f6e223a2262656361757365227d', '2026-11-21 06:32:29.286825+00', '\x2caf12af4dc6b9a4781e63caed6c16d2601cbbe4d7465c04e1e43cee2ea59b04');
INSERT INTO migration_ledger.events VALUES (7, '7ac3926a-f71a-558a-84e4-10ebdd202ef2', 1, 'flow.planned', '\x7b226261746368223a31302c226669656c64223a22222c226b696e64223a22726f757465222c226d6967726174696f6e223a226d222c226f726967696e61746f725f746f706963223a22666c6f77222c22726f75746573223a7b7d2c22736f75726365223a2230303030303030302d303030302d303030302d303030302d303030303030303030303031222c2273746570223a22666c6f772f646f6373222c227468726f756768223a317d', '\x7b226163746f72223a226d617261222c226163746f725f65737461626c6973686564223a226f732d75736572222c22636175736174696f6e5f6964223a22222c22636f7272656c6174696f6e5f6964223a22632d31222c22726561736f6e223a2262656361757365227d', '2026-11-21 06:32:29.290427+00', '\x9ad18ab0d036b91e0302d4e854d5dea4edafc99fd738c4d0b3ea3ccae1409c82');

INSERT INTO migration_ledger.schema_versions VALUES (1, 'events', '2026-11-21 06:32:29.263746+00');

INSERT INTO migration_ledger.streams VALUES ('1669e68d-ed8a-5796-8502-cd1ee450de67', 3, 'application');
INSERT INTO migration_ledger.streams VALUES ('1e220a00-c28b-5da7-b629-96139f839d03', 1, 'application');
INSERT INTO migration_ledger.streams VALUES ('04dc0fce-d413-5500-9833-a1a4bf960622', 2, 'application');
INSERT INTO migration_ledger.streams VALUES ('7ac3926a-f71a-558a-84e4-10ebdd202ef2', 1, 'flow');

INSERT INTO migration_ledger.tip VALUES (true, 7, '\x9ad18ab0d036b91e0302d4e854d5dea4edafc99fd738c4d0b3ea3ccae1409c82', '2026-11-21 06:32:29.290427+00');

ALTER TABLE ONLY migration_ledger.commands
    ADD CONSTRAINT commands_pkey PRIMARY KEY (key);

ALTER TABLE ONLY migration_ledger.events
    ADD CONSTRAINT events_pkey PRIMARY KEY ("position");

ALTER TABLE ONLY migration_ledger.events
    ADD CONSTRAINT events_stream_version_key UNIQUE (stream, version);

ALTER TABLE ONLY migration_ledger.schema_versions
    ADD CONSTRAINT schema_versions_pkey PRIMARY KEY (version);

ALTER TABLE ONLY migration_ledger.streams
    ADD CONSTRAINT streams_pkey PRIMARY KEY (stream);

ALTER TABLE ONLY migration_ledger.tip
    ADD CONSTRAINT tip_pkey PRIMARY KEY (only_row);

CREATE INDEX events_kind ON migration_ledger.events USING btree (split_part(topic, '.'::text, 1), "position");

CREATE TRIGGER events_are_for_ever BEFORE DELETE OR UPDATE OR TRUNCATE ON migration_ledger.events FOR EACH STATEMENT EXECUTE FUNCTION migration_ledger.refuse_change();

ALTER TABLE migration_ledger.events ENABLE ALWAYS TRIGGER events_are_for_ever;
