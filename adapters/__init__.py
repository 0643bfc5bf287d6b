"""Everything that talks to the outside: stores, brokers, servers, the command line, HTTP."""
