"""The daemon: everything with an effect (socket, clock, disk, log, scheduling); the only room that joins policy and hwio."""
