"""Every limit that a client can push against, with its number and the reason for it.

Limits on single names and lists stand with the fields they limit, in `featurekeyd.policy.requests`; the number of
leases of one holder in `policy.decision.Rules`, of holder names in `policy.holders`, of keys in a list in
`policy.licenselist`.
"""

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""Longest message: a license list of 1 MiB as a JSON string, where each line end takes two bytes and more."""

MAX_TELEPHONY_BYTES = 512 * 1024
"""Longest message of a client that may not manage: a Sync of 256 leases with the longest names of ASCII and eight wants
each has 411,392 bytes."""

MAX_UNREAD_BYTES = 256 * 1024
"""Answers that may wait for a client that does not read; then nothing more is read from it."""

UNREAD_SECONDS = 30
"""How long answers may wait before the connection is dropped: a client that slow has given up long ago."""

HALF_MESSAGE_SECONDS = 10
"""How long a message may be under way: a local client sends it in one piece."""

CALLS_PER_TURN = 16
"""Calls of one connection served in one turn, so that a pipelining client does not keep its user's others waiting."""

CALLS_OF_TURN = 32
"""Calls served in one turn, shared by the users who have asked: some 0.3 ms, which is how long a flood of one user may
hold up the answer to another. Twice as many would save a thirtieth of the work, half as many cost as much."""

TURN_MICROSECONDS = 500
"""How long one turn serves, shared by the users who have asked, whatever the calls are; the piece of work that is under
way then is ended. The dearest piece is a Sync of the greatest length, some 2 ms."""

LEASES_PER_SLICE = 256
"""Leases that a listing looks at before others are served: nearly none of them may be what is asked for."""

REPLIES_PER_TURN = 128
"""Replies of one listing sent in one turn, for the same reason."""

MAX_CONNECTIONS_PER_USER = 256
"""Connections of one user: a switch opens one for each worker, and large ones have 64 workers."""

MAX_CONNECTIONS = 1024
"""Connections in all: the usual limit of descriptors is 1024 soft and 524288 hard; the daemon raises its own."""

KEPT_FOR_MANAGERS = 32
"""Of these, kept for users who may manage: when telephony has taken all others, a technician still gets in."""

MAX_SUBSCRIBERS = 32
"""Connections that Watch: each costs a copy of every event, some 10 KB in a turn that is full of decisions."""

MAX_SUBSCRIBERS_OF_USER = 8
"""Of these, connections of one user: a wallboard, a monitor and some windows of technicians; four users who take all
they may leave none to others, and one does not."""

ACCEPTED_AT_ONCE = 4
"""Connections accepted between two turns, some 0.3 ms, so that a storm of them does not keep those who are connected
waiting."""

ACCEPT_AGAIN_SECONDS = 1.0
"""Pause after the system refused a connection for want of descriptors or memory: asking it all the time frees none."""

LONG_MESSAGE_BYTES = 16 * 1024
"""A message longer than this is decoded step by step, so that a bad one is not decoded twice."""

MAX_CALL_REQUEST_BYTES = 16 * 1024
"""Longest request on the call_control socket: the module of the switch makes none of more than 8192 bytes."""

MAX_CALL_REQUEST_LINES = 32
"""Lines of such a request: the module sends nine."""

MAX_CALL_VERB = 16
"""Characters of its verb: the longest has five."""

MAX_UNREAD_ANSWERS = 4096
"""Bytes of such answers that may wait for a client beside what the system takes: the module reads each answer before it
asks again."""

SILENT_MILLISECONDS = 500
"""How long a connection to that socket may be silent whose process cannot be known again: one that its main process
made before it forked is shared by all workers, who would take each other's answers (facts/telephony.md section 5)."""

MAX_SWITCH_PROCESSES = 256
"""Processes of one user that are followed, at the price of a descriptor each: as many as its connections."""
