"""What the ledger can be asked to do; one public function or class a file."""
