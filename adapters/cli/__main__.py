"""`python -m adapters.cli` is the same program as `migration-ledger`."""

from adapters.cli.main import main

main()
