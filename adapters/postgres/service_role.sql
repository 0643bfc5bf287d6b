-- What a service that must not rewrite history may do. Run once by the owner of the schema, after
-- `db upgrade`, with the name of an existing role:
--
--     psql --set role=ledger_service --file service_role.sql
--
-- Events, streams, answers and the tip change only inside append() and append_one(), which run with
-- the rights of their owner. Upgrades and erasures are run by the owner, not by this role. It may
-- update a column of bodies because whoever locks a row must be able to update it.

GRANT USAGE ON SCHEMA migration_ledger TO :"role";
GRANT SELECT ON ALL TABLES IN SCHEMA migration_ledger TO :"role";
GRANT INSERT, UPDATE, DELETE ON
    migration_ledger.generations, migration_ledger.heads, migration_ledger.applications,
    migration_ledger.flows, migration_ledger.flow_ranges, migration_ledger.leaders,
    migration_ledger.cursors, migration_ledger.view_builds, migration_ledger.views,
    migration_ledger.workers, migration_ledger.timeline
    TO :"role";
GRANT INSERT ON
    migration_ledger.objects, migration_ledger.bodies, migration_ledger.past_heads
    TO :"role";
-- Retention decides what is to become of bodies, and deletes those that it gave up: a policy of the
-- table lets no other object go.
GRANT UPDATE (fate, fate_at, erasing) ON migration_ledger.bodies TO :"role";
GRANT INSERT ON migration_ledger.left_rows TO :"role";
GRANT DELETE ON migration_ledger.objects TO :"role";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA migration_ledger TO :"role";
REVOKE EXECUTE ON FUNCTION migration_ledger.append, migration_ledger.append_one FROM PUBLIC;
GRANT EXECUTE ON FUNCTION migration_ledger.append, migration_ledger.append_one TO :"role";
