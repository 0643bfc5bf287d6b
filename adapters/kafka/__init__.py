"""The relay that publishes the ledger to Kafka, and the consumer that appliers read."""
