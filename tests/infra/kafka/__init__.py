"""Apache Kafka for tests: a broker from Maven, started, killed, frozen and wiped at will."""
