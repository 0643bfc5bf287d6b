"""What a migration is, independent of any server: model, ports and use cases."""
