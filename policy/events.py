"""What happens, by name: everything a technician can act on, with its priority and the journal's MESSAGE_ID.

Policy gives events back, the daemon adds its own, and both take the names from this one list. A denied decision is not
listed here: its MESSAGE_ID is the one of its reason (`reasons.MEANING`).
"""

from __future__ import annotations

import enum

import msgspec


class Priority(enum.IntEnum):
    """Priority of a journal entry (syslog(3))."""

    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


class EventName(enum.StrEnum):
    """The closed list of events."""

    SELF_TEST_FAILED = "self_test_failed"
    NOT_STARTED = "not_started"
    STARTED = "started"
    STOPPED = "stopped"
    SETTINGS_READ_ANEW = "settings_read_anew"
    SETTINGS_REFUSED = "settings_refused"
    STANDING_LICENSED = "standing_licensed"
    STANDING_GRACE = "standing_grace"
    STANDING_RESTRICTED = "standing_restricted"
    STANDING_DEACTIVATED = "standing_deactivated"
    FEATURE_KEY_FOUND = "feature_key_found"
    FEATURE_KEY_TROUBLE = "feature_key_trouble"
    CERTIFICATE_IMPORTED = "certificate_imported"
    LICENSE_ADDED = "license_added"
    LICENSE_REMOVED = "license_removed"
    LICENSES_EXPORTED = "licenses_exported"
    LIST_IMPORTED = "list_imported"
    LICENSE_EXPIRES_SOON = "license_expires_soon"
    LICENSE_EXPIRED = "license_expired"
    OVER_USE_BEGAN = "over_use_began"
    OVER_USE_ENDED = "over_use_ended"
    ALARM_RAISED = "alarm_raised"
    ALARM_CLEARED = "alarm_cleared"
    EMERGENCY_CALL = "emergency_call"
    EMERGENCY_CLAIM = "emergency_claim"
    CHANNEL_DRIFT = "channel_drift"
    SYNC_DRIFT = "sync_drift"
    HOLDER_SILENT = "holder_silent"
    CALLS_ENDED_UNTOLD = "calls_ended_untold"
    LEASE_FORCED = "lease_forced"
    RESERVED = "reserved"
    UNRESERVED = "unreserved"
    TURN = "turn"
    CLOCK_SET_BACK = "clock_set_back"
    CLOCK_AHEAD = "clock_ahead"
    CLOCK_UNSET = "clock_unset"
    CLOCK_RIGHT = "clock_right"
    CLOCK_REPAIRED = "clock_repaired"
    HOST_ENROLLED = "host_enrolled"
    HOST_NOT_ENROLLED = "host_not_enrolled"
    HOST_LEARNED = "host_learned"
    HOST_CHANGED = "host_changed"
    HOST_SAME = "host_same"
    ADDRESS_ANNOUNCED = "address_announced"
    CHECK_PASSED = "check_passed"
    CHECK_FAILED = "check_failed"
    CHECK_ANSWERED = "check_answered"
    CHECK_TOLD_NO = "check_told_no"
    CHECK_REMARK = "check_remark"
    RESCUE_OPENED = "rescue_opened"
    RESCUE_REFUSED = "rescue_refused"
    RESCUE_ENDED = "rescue_ended"
    LEASES_RESTORED = "leases_restored"
    LEASES_UNREADABLE = "leases_unreadable"
    LEASES_NOT_RECORDED = "leases_not_recorded"
    LEASES_RECORDED_AGAIN = "leases_recorded_again"
    SOCKET_TROUBLE = "socket_trouble"
    SOCKET_RIGHT = "socket_right"
    VENDOR_KEY_TROUBLE = "vendor_key_trouble"
    STATE_NOT_STORED = "state_not_stored"
    STATE_REFUSED = "state_refused"
    STATE_SET_ASIDE = "state_set_aside"
    STATE_TAMPERED = "state_tampered"
    STATE_BACKED_UP = "state_backed_up"
    STATE_RESTORED = "state_restored"
    DENIED = "denied"
    DENIALS_SUMMARIZED = "denials_summarized"
    CLIENT_REFUSED = "client_refused"
    LOG_OVERFLOW = "log_overflow"
    UNEXPECTED = "unexpected"


class Sort(msgspec.Struct, frozen=True):
    """Priority and MESSAGE_ID of an event."""

    priority: Priority
    message_id: str


SORT = {
    EventName.SELF_TEST_FAILED: Sort(Priority.CRITICAL, "781ccff462724c87b8bc19edde05f2ff"),
    EventName.NOT_STARTED: Sort(Priority.CRITICAL, "642c74db1687426283e0ddb1f0279f81"),
    EventName.STARTED: Sort(Priority.NOTICE, "7e876f5ab4e24786a5577aed658e4d5c"),
    EventName.STOPPED: Sort(Priority.NOTICE, "33c6eed70d884c4dba6e2cecd71e9fe7"),
    EventName.SETTINGS_READ_ANEW: Sort(Priority.NOTICE, "9745325327794b1c8a7bc30251cd89e2"),
    EventName.SETTINGS_REFUSED: Sort(Priority.ERROR, "cec6d38003f64b758a792a8d2da663dc"),
    EventName.STANDING_LICENSED: Sort(Priority.NOTICE, "cb295ba8fc304be28832097664307aeb"),
    EventName.STANDING_GRACE: Sort(Priority.WARNING, "cee71cc2a5b946a59167e242f733b654"),
    EventName.STANDING_RESTRICTED: Sort(Priority.ERROR, "31b87a07bc28455d81e15abfccb20b70"),
    EventName.STANDING_DEACTIVATED: Sort(Priority.CRITICAL, "2e57e5d0431547149a9efa39a430ee93"),
    EventName.FEATURE_KEY_FOUND: Sort(Priority.NOTICE, "5b8b184cde024cb1b74b75121dc9f28b"),
    EventName.FEATURE_KEY_TROUBLE: Sort(Priority.WARNING, "6a8bb889f28b4ba395835aed5a399f13"),
    EventName.CERTIFICATE_IMPORTED: Sort(Priority.NOTICE, "5ab7fa8f4da247e9b94b2fc53e52bcf8"),
    EventName.LICENSE_ADDED: Sort(Priority.NOTICE, "e97a433cdf494a3cbc94480aa33321bf"),
    EventName.LICENSES_EXPORTED: Sort(Priority.NOTICE, "cfc950e2a9f7434b86cdd27965cf93a8"),
    EventName.LICENSE_REMOVED: Sort(Priority.NOTICE, "cd624449df2644c9bf5911d57b2ff224"),
    EventName.LIST_IMPORTED: Sort(Priority.NOTICE, "db4556b5a21c4720b244ddab16ce5135"),
    EventName.LICENSE_EXPIRES_SOON: Sort(Priority.WARNING, "1392a24357b1499dab678978c72dee30"),
    EventName.LICENSE_EXPIRED: Sort(Priority.WARNING, "3d08ae594da84e43bef2c8e0efa6e279"),
    EventName.OVER_USE_BEGAN: Sort(Priority.WARNING, "5f6bb6d8aebe46eaab786918384c8acc"),
    EventName.OVER_USE_ENDED: Sort(Priority.NOTICE, "64353556e339461bb5acfe8c2d4e8fc9"),
    EventName.ALARM_RAISED: Sort(Priority.WARNING, "95eb2baab5ad464e94e815aecc699828"),
    EventName.ALARM_CLEARED: Sort(Priority.NOTICE, "b3e1e5ecfc1c4fd290bc3597ffccdaf3"),
    EventName.EMERGENCY_CALL: Sort(Priority.NOTICE, "76506321dd974d76aa37eeb19a872527"),
    EventName.EMERGENCY_CLAIM: Sort(Priority.ALERT, "0336a095031a4c0fb74b79dc590eb846"),
    EventName.CHANNEL_DRIFT: Sort(Priority.WARNING, "52c1d26e394343e49d03d8841e7bf5e0"),
    EventName.SYNC_DRIFT: Sort(Priority.WARNING, "00b82029f82a4c1583588d3751da71b4"),
    EventName.HOLDER_SILENT: Sort(Priority.WARNING, "affaa23f7e4f481a823cb1ab1445fcff"),
    EventName.CALLS_ENDED_UNTOLD: Sort(Priority.WARNING, "fedfab3212e34b37a9d32ce3cdaccdc9"),
    EventName.LEASE_FORCED: Sort(Priority.NOTICE, "bd1fe33d97a145d1bc826d0bcbbf4df0"),
    EventName.RESERVED: Sort(Priority.NOTICE, "941f2445f81841be8c9d079449d06362"),
    EventName.UNRESERVED: Sort(Priority.NOTICE, "88ae7cd3ff3b4e798620e63d54bb527b"),
    EventName.TURN: Sort(Priority.INFO, "984299f7d77042f2be9d6a9a2b1a837a"),
    EventName.CLOCK_SET_BACK: Sort(Priority.WARNING, "61e1b0c8c3144270b7e7088f5de111b4"),
    EventName.CLOCK_AHEAD: Sort(Priority.WARNING, "dd03188217a7433687550ec67efc9cf5"),
    EventName.CLOCK_UNSET: Sort(Priority.NOTICE, "77cc9e7d8c1841f8b5ea8fede85e3325"),
    EventName.CLOCK_RIGHT: Sort(Priority.NOTICE, "26f5e455e99a403886d819af282c1eef"),
    EventName.CLOCK_REPAIRED: Sort(Priority.NOTICE, "070d10f53ceb473bb628484ce2de141c"),
    EventName.HOST_ENROLLED: Sort(Priority.NOTICE, "7e15e3fce30a4f3fb68149421b027e03"),
    EventName.HOST_NOT_ENROLLED: Sort(Priority.WARNING, "8758343624a044d4a7ee687735fd9fed"),
    EventName.HOST_LEARNED: Sort(Priority.NOTICE, "6156ab7664e944e488132f4abd75032d"),
    EventName.HOST_CHANGED: Sort(Priority.WARNING, "8f90b4d9754a4c8f90fe9e0e4b1328cd"),
    EventName.HOST_SAME: Sort(Priority.NOTICE, "9139bc4f76dc4340ae4e4d548d880f1a"),
    EventName.ADDRESS_ANNOUNCED: Sort(Priority.NOTICE, "3f2333f152254a79b17c79645779b866"),
    EventName.CHECK_PASSED: Sort(Priority.INFO, "e0d9ed63820b4036a4926cbb863dbb57"),
    EventName.CHECK_FAILED: Sort(Priority.WARNING, "42efa4a1406b485882d75f2cb3b0a8d4"),
    EventName.CHECK_ANSWERED: Sort(Priority.NOTICE, "b7508b98a8a9408aaa943444852480dc"),
    EventName.CHECK_TOLD_NO: Sort(Priority.ALERT, "677e7e355bd1412ab0f79e2eee81e4be"),
    EventName.CHECK_REMARK: Sort(Priority.WARNING, "39571f94a1be4c60b039afe37804555f"),
    EventName.RESCUE_OPENED: Sort(Priority.CRITICAL, "e6868dee33a145db9939776a9ea70ea0"),
    EventName.RESCUE_REFUSED: Sort(Priority.WARNING, "56e8333e3be746aa9300229cd4b53ba9"),
    EventName.RESCUE_ENDED: Sort(Priority.WARNING, "4cfff43d77674dfb8705a80abd84abf9"),
    EventName.LEASES_RESTORED: Sort(Priority.NOTICE, "e0a53f4f13fa4dbea85e5a45f0ad9cdd"),
    EventName.LEASES_UNREADABLE: Sort(Priority.ERROR, "e5123c2b0850427b9a0465e012f8a56b"),
    EventName.LEASES_NOT_RECORDED: Sort(Priority.ERROR, "bef9d917599d45b2a0b2dba91c7a8b5d"),
    EventName.LEASES_RECORDED_AGAIN: Sort(Priority.NOTICE, "f5e5d18f94cd4aa1909d4b114def74c2"),
    EventName.SOCKET_TROUBLE: Sort(Priority.ERROR, "46741e721de945c682198df7e64f7453"),
    EventName.SOCKET_RIGHT: Sort(Priority.NOTICE, "23cac705a56243a3b668e9e2dba68251"),
    EventName.VENDOR_KEY_TROUBLE: Sort(Priority.ERROR, "3704da8e72bf4fd195ff4db7de281bfd"),
    EventName.STATE_NOT_STORED: Sort(Priority.ERROR, "f538b1f102084fa2bce10da60740110f"),
    EventName.STATE_REFUSED: Sort(Priority.ERROR, "280f504a93ed461bbf25fb87c3fc03d6"),
    EventName.STATE_SET_ASIDE: Sort(Priority.ERROR, "16ed35dfed60496099ff06bbbc5b5fe1"),
    EventName.STATE_TAMPERED: Sort(Priority.ERROR, "2c23198896024746b8061fc99c907a7e"),
    EventName.STATE_BACKED_UP: Sort(Priority.NOTICE, "1a3c1d26953f45d88c601e033ef95e7b"),
    EventName.STATE_RESTORED: Sort(Priority.NOTICE, "00854b1986cf425697111a2d4b0b7891"),
    EventName.DENIED: Sort(Priority.WARNING, "e0092472c7044a32ab137096995a0cdd"),
    EventName.DENIALS_SUMMARIZED: Sort(Priority.WARNING, "d353f5ecd26e4147befeb52a9fa2c12a"),
    EventName.CLIENT_REFUSED: Sort(Priority.WARNING, "965e6a6a93a54f939bb91e4232e34618"),
    EventName.LOG_OVERFLOW: Sort(Priority.ERROR, "2829721902b54661810e5f891aefd657"),
    EventName.UNEXPECTED: Sort(Priority.ERROR, "5b6a6cc0ba1d40848dc58d76ed1efe39"),
}
"""Every event has an entry."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: a sentence, and fields for the journal in its spelling (`FEATURE`, `HOLDER`, …)."""

    name: EventName
    message: str
    fields: dict[str, str] = {}
