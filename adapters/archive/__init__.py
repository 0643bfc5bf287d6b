"""A ledger as a folder of files: written from its database and objects, checked, read back."""
