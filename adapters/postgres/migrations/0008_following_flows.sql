-- Flows that go on with the changes of their source: which generation that is, and from when on they
-- rest. Their last range stays in the queue, and is free whenever the source is ahead of it.
ALTER TABLE flows ADD COLUMN source uuid, ADD COLUMN until timestamptz;
