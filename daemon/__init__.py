"""The daemon: everything with an effect (socket, clock, disk, log, scheduling); joins policy and hwio."""
