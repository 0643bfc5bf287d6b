"""Pure values, aggregates, events and plans. No clock, no randomness, no I/O."""
