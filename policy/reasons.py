"""The closed list of reasons for a decision, and the one table of what each means to a technician.

The stable names are those of io.featurekey.License, type Reason. A message is a sentence with the fields
`{title}`, `{feature}`, `{unit}`, `{limit}`, `{wanted}`, `{in_use}`, `{kept}`, `{port}`, `{holder}`, `{cause}` and
`{known}`, filled in only when it is shown.
"""

from __future__ import annotations

import enum

import msgspec


class Reason(enum.StrEnum):
    """Why a decision came out as it did."""

    GRANTED = "granted"
    ALREADY_HELD = "already_held"
    EMERGENCY = "emergency"
    EMERGENCY_CALLBACK = "emergency_callback"
    FALLEN_BACK = "fallen_back"
    DEACTIVATED = "deactivated"
    UNKNOWN_FEATURE = "unknown_feature"
    UNKNOWN_APPLICATION = "unknown_application"
    NOT_SUPPORTED = "not_supported"
    NOT_LICENSED = "not_licensed"
    LICENSE_EXPIRED = "license_expired"
    LICENSE_UNLISTED = "license_unlisted"
    PREREQUISITE_MISSING = "prerequisite_missing"
    LIMIT_REACHED = "limit_reached"
    RESERVED = "reserved"
    OTHERS_WAIT = "others_wait"
    CEILING_REACHED = "ceiling_reached"
    TOO_MANY_LEASES = "too_many_leases"


class Meaning(msgspec.Struct, frozen=True):
    """What a reason tells a technician: a sentence, what to do, and the journal's MESSAGE_ID."""

    message: str
    remedy: str
    message_id: str


MEANING = {
    Reason.GRANTED: Meaning("Granted.", "", "66569e4f30af41b990843d6120d4d311"),
    Reason.ALREADY_HELD: Meaning("The lease holds all of this already.", "", "a175fe2f6baa4262895f1e469830bd8f"),
    Reason.EMERGENCY: Meaning("An emergency call is always granted.", "", "77e494c336be48079c3b4944233879c6"),
    Reason.EMERGENCY_CALLBACK: Meaning(
        "A callback after an emergency call is always granted.", "", "3f72434b9085474bba8bfbd423c5b6ab"
    ),
    Reason.FALLEN_BACK: Meaning("The application runs in a lower mode.", "", "7c23037520554ceca11abfd87e80c1a3"),
    Reason.DEACTIVATED: Meaning(
        "The system is deactivated: {cause}",
        "featurekeyctl status shows the cause and its cure.",
        "062d533cd93644a98e196ae85fa0d103",
    ),
    Reason.UNKNOWN_FEATURE: Meaning(
        "The catalog has no feature {feature}.",
        "featurekeyctl features lists the names; mend the one in the switch's configuration.",
        "b29a09975dbc40139b8596a883b2b859",
    ),
    Reason.UNKNOWN_APPLICATION: Meaning(
        "The catalog has no application {feature}.",
        "Mend the name in the configuration of the program that asks; known here: {known}.",
        "9a8a305b80364feea21c63192d10b361",
    ),
    Reason.NOT_SUPPORTED: Meaning(
        "This system does not use {title}.",
        "featurekeyctl features tells why; see [product] platform and release in featurekeyd.toml.",
        "0c6d07281da34bb38b4873fb2f3edc25",
    ),
    Reason.NOT_LICENSED: Meaning(
        "There is no license for {title}.",
        "Order one and add it: featurekeyctl add KEY",
        "3ab292294fbc4180832f0f8b194a47aa",
    ),
    Reason.LICENSE_EXPIRED: Meaning(
        "All licenses for {title} have expired.",
        "Order a new one; featurekeyctl licenses shows the days.",
        "f5d0f1af4a3145c2b83b1475b277fe11",
    ),
    Reason.LICENSE_UNLISTED: Meaning(
        "The licenses for {title} were not confirmed by the vendor's list in time.",
        "Import the vendor's newest license list: featurekeyctl import LIST.csv",
        "2afe0b25dd654ef49ebf446b37064418",
    ),
    Reason.PREREQUISITE_MISSING: Meaning(
        "The licenses for {title} wait for another license that is missing.",
        "featurekeyctl features shows what is there; order the missing edition.",
        "e08726ba4f9a48e09fccd7016bfc6481",
    ),
    Reason.LIMIT_REACHED: Meaning(
        "{in_use} of {limit} licensed instances of {title} are in use, and {wanted} more asked for.",
        "Wait until a {unit} is free, see who holds them (featurekeyctl leases --feature {feature}), or order more.",
        "482b7852fdd14bbdb0b00fad523ff56b",
    ),
    Reason.RESERVED: Meaning(
        "{in_use} of {limit} licensed instances of {title} are in use, {kept} are reserved for others, and {wanted} "
        "more asked for.",
        "See for whom (featurekeyctl reservations), give a reservation up (featurekeyctl unreserve), or order more.",
        "3c2c2ba3f0154cf89b68db3bff6dd155",
    ),
    Reason.OTHERS_WAIT: Meaning(
        "{in_use} of {limit} licensed instances of {title} are in use, {kept} go to others who wait for them, and "
        "{wanted} more asked for.",
        "Ask again with `wait`, which gives the request a place in the waiting order, or order more.",
        "9a3d50eeb4474efcbd0d3f869c19fa81",
    ),
    Reason.CEILING_REACHED: Meaning(
        "{in_use} of at most {limit} calls are on port {port}.",
        "Wait until a call on it ends (featurekeyctl ports), or raise the port's ceiling in featurekeyd.toml under "
        "[ceilings]; systemctl reload featurekeyd takes it in.",
        "47426fd2dca84f098b101fe145f0f63b",
    ),
    Reason.TOO_MANY_LEASES: Meaning(
        "The user of holder {holder} has {in_use} leases, and one user may have {limit}.",
        "The switch does not give back what it takes; see featurekeyctl leases --holder {holder}",
        "4cbbeea5195d4cdfba1ec3e9aed9fc5d",
    ),
}
"""The one table from reasons to what is said about them; every reason has an entry."""
