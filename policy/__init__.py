"""The pure core: license keys, catalogs, entitlements, ledger and enforcer; no clock, no I/O, no log, no threads."""
