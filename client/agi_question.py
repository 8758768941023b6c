"""From one AGI line of the dialplan to a question, and from the answer to channel variables; no I/O.

The line is `AGI(agi://127.0.0.1/acquire?port=trunk:carrier-a&wants=sip-trunk-channels,vcm-channels)`. Rules:

* Asterisk splits the line at commas: what stands behind one comes as an argument of its own, and belongs to `wants`
  where it has no `=`. What the line does not say is asked of the channel: `FEATUREKEY_WANTS` and so on.
* The key is the Uniqueid of the channel, with a number behind it for a further use (`agi_calls`). A channel has one for
  life, AMI has it in every event and list, and a hangup handler runs on the channel itself. The Linkedid names several
  channels and changes when calls are joined.
* An unknown parameter or value is a mistake that is told and denied: a misspelled `fail=opne` is noticed at once. An
  emergency call passes all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .answer import DAEMON_AWAY, REFUSED, Answer
from .callrequest import CLASSES, is_emergency
from .wantsyntax import parse_wants

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .agi_protocol import Environment

VERBS = ("acquire", "answered", "release", "hangup")

PARAMETERS = ("port", "channel", "wants", "class", "dialed", "direction", "fail", "refuse")
"""What an `acquire` may say; each may stand in a channel variable instead, as `FEATUREKEY_` and its name."""

ASKED_OF_CHANNEL = ("port", "wants", "fail")
"""Parameters looked up on the channel where the line has no `wants`: one question to Asterisk for each."""

CAUSE_LIMIT = 34
"""Q.850, no circuit or channel available: a SIP channel driver answers 503 (facts/telephony.md section 7)."""

CAUSE_AWAY = 38
"""Q.850, network out of order: the daemon did not answer and the trunk fails closed (same place)."""

CAUSES = {"503": CAUSE_LIMIT, "486": 17, "480": 31}
"""What `refuse=` makes of a limit, by the SIP answer of chan_pjsip: user busy is 486, normal unspecified is 480."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one line of the dialplan asks."""

    verb: str
    key: str
    """The Uniqueid of the channel, and once it is known which use of it is meant, the key of that one."""
    said: Mapping[str, str] = field(default_factory=dict)
    dialed: str = ""
    emergency: bool = False
    channel_name: str = ""
    line: str = ""
    """Where in the dialplan it is asked and with which words: the same for one who comes there again."""
    mistake: str = ""
    """What is wrong with the line, empty where nothing is."""

    @property
    def wants(self) -> tuple[str, ...]:
        """The features, as written."""
        return tuple(it.strip() for it in self.said.get("wants", "").split(",") if it.strip())

    @property
    def port(self) -> str:
        """The port, empty where none is named."""
        return self.said.get("port", "")

    @property
    def channel(self) -> str:
        """The channel of that port: the one that is named, else the name that Asterisk gave the channel."""
        return self.said.get("channel", "") or self.channel_name

    @property
    def direction(self) -> str:
        """`in` or `out`, empty where it is not said."""
        return self.said.get("direction", "")

    @property
    def fail_open(self) -> bool:
        """Whether the call goes on where the daemon cannot be asked."""
        return self.said.get("fail") == "open"


def missing(environment: Environment) -> tuple[str, ...]:
    """Parameters that are to be asked of the channel before `read_question`."""
    verb, said = _split(environment)
    if verb != "acquire" or "wants" in said:
        return ()
    return tuple(name for name in ASKED_OF_CHANNEL if name not in said)


def read_question(environment: Environment, found: Mapping[str, str], numbers: Collection[str]) -> Question:
    """The question of one connection; `found` is what the channel said of what was missing."""
    verb, said = _split(environment)
    said = {name: value for name, value in found.items() if value} | said
    dialed = _dialed(environment, said, numbers)
    return Question(
        verb=verb,
        key=environment["uniqueid"],
        said=said,
        dialed=dialed,
        # A line with a misspelled verb may be the one that puts an emergency call through.
        emergency=verb not in VERBS[1:] and is_emergency(said.get("class"), dialed, numbers),
        channel_name=environment["channel"],
        line=repr((environment["context"], environment["extension"], verb, sorted(said.items()))),
        mistake=_mistake(verb, environment["uniqueid"], said),
    )


def _split(environment: Environment) -> tuple[str, dict[str, str]]:
    """The verb, and what is said beside it: behind the question mark and behind the commas."""
    script = environment["network_script"] or environment["request"].partition("://")[2].partition("/")[2]
    verb, _, query = script.partition("?")
    said: dict[str, str] = {}
    last = ""
    for part in [*query.split("&"), *environment.arguments]:
        name, equals, value = part.strip().partition("=")
        if equals:
            last = name.strip().lower()
            said[last] = unquote(value.strip())
        elif name and last == "wants":
            said["wants"] += f",{unquote(name)}"
        elif name:
            said.setdefault(name, "")
    return verb.strip("/ ").lower(), said


def _dialed(environment: Environment, said: Mapping[str, str], numbers: Collection[str]) -> str:
    """The number that was dialed: the one that the line names, else the extension, or the called number of the trunk.

    Of several the one that is an emergency number counts: inside a subroutine the extension is `s`.
    """
    candidates = [it.strip() for it in (said.get("dialed", ""), environment["extension"], environment["dnid"])]
    return next((it for it in candidates if it in numbers), next(filter(None, candidates), ""))


def _mistake(verb: str, key: str, said: Mapping[str, str]) -> str:
    if verb not in VERBS:
        return f"agi://.../{verb[:40]}: there are {', '.join(VERBS)}"
    if not key:
        return "the channel has no uniqueid"
    unknown = [name for name in said if name not in PARAMETERS]
    if unknown:
        return f"{unknown[0][:40]}: no such parameter; there are {', '.join(PARAMETERS)}"
    return "" if verb != "acquire" else _wrong_value(said)


VALUES = {"fail": ("open", "closed"), "refuse": tuple(CAUSES), "class": CLASSES, "direction": ("in", "out")}
"""Parameters that are one of a few words."""


def _wrong_value(said: Mapping[str, str]) -> str:
    for name, values in VALUES.items():
        if said.get(name) and said[name] not in values:
            return f"{name}={said[name][:40]}: must be one of {', '.join(values)}"
    try:
        parse_wants(it.strip() for it in said.get("wants", "").split(",") if it.strip())
    except ValueError as error:
        return f"wants: {error}"
    return ""


def denied(mistake: str) -> Answer:
    """The answer to a line that is wrong: whatever it says of failing open, since it was wrong before any trouble."""
    return Answer(allowed=False, reason=REFUSED, message=mistake, from_daemon=False)


def variables(question: Question, answer: Answer) -> dict[str, str]:
    """The channel variables that say the answer, in the order in which they are set: the status last."""
    return {
        "FEATUREKEY_REASON": answer.reason,
        "FEATUREKEY_LIMIT": "" if answer.limit is None else str(answer.limit),
        "FEATUREKEY_IN_USE": "" if answer.in_use is None else str(answer.in_use),
        "FEATUREKEY_MESSAGE": " ".join(filter(None, (answer.message, answer.remedy))) if not answer.allowed else "",
        "FEATUREKEY_CAUSE": "" if answer.allowed else str(_cause(question, answer)),
        "FEATUREKEY_CHANNEL": question.channel if answer.allowed else "",
        "FEATUREKEY_STATUS": _status(answer),
    }


def _status(answer: Answer) -> str:
    if answer.allowed:
        return "allowed"
    return "away" if answer.reason == DAEMON_AWAY else "denied"


def _cause(question: Question, answer: Answer) -> int:
    if answer.from_daemon:
        return CAUSES.get(question.said.get("refuse", ""), CAUSE_LIMIT)
    return CAUSE_AWAY
