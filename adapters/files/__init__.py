"""Points in files that people keep and other programs read."""
