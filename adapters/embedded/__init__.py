"""The servers that run when none is configured: PostgreSQL, a Kafka broker, a Qdrant node."""
