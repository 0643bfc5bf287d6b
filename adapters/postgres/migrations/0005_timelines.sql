-- Which history of which ledger this is and, while that is in doubt, why nothing goes on.

-- One row. A copy of a database has the same id as the database: it is the same ledger.
CREATE TABLE timeline (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    ledger uuid NOT NULL DEFAULT gen_random_uuid(),
    number integer NOT NULL DEFAULT 1,
    halted_since timestamptz,
    reason text,
    findings jsonb NOT NULL DEFAULT '[]'
);

INSERT INTO timeline DEFAULT VALUES;

-- True, or an error that says why work is halted. What has an effect asks this in the statement
-- that permits the effect: a lease, a claim, a leadership. Only a recovery goes on.
CREATE FUNCTION working() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    _since timestamptz;
    _reason text;
BEGIN
    SELECT t.halted_since, t.reason INTO _since, _reason FROM migration_ledger.timeline t;
    IF _since IS NOT NULL
        AND current_setting('migration_ledger.recovering', true) IS DISTINCT FROM 'on'
    THEN
        RAISE EXCEPTION 'work is halted since % UTC: %. Run `migration-ledger recover`.',
            to_char(_since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), _reason
            USING ERRCODE = 'MLH01';
    END IF;
    RETURN true;
END
$$;

CREATE FUNCTION refuse_while_halted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM migration_ledger.working();
    RETURN NEW;
END
$$;

-- Whatever appends moves the tip, once for a batch, under the ledger's lock: so after a halt was
-- committed nothing is recorded any more, and a repeated command still gets its first answer.
CREATE TRIGGER nothing_while_halted BEFORE UPDATE ON tip
    FOR EACH ROW WHEN (NEW.position > OLD.position) EXECUTE FUNCTION refuse_while_halted();
