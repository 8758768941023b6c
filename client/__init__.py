"""What telephony processes and technicians use; talks to the daemon only through its socket."""
