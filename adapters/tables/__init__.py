"""The tables of an application, whose rows a migration reads and restructures."""
