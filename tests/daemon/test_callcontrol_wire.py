"""The text protocol of call_control: cut as it may be, folded headers, and bytes that are no request."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurekeyd.daemon import limits
from featurekeyd.daemon.callcontrol_wire import BadRequest, CallRequest, CallRequests

INIT = (
    b"init\r\nruri: sip:100@pbx\r\ndiverter: None\r\nsourceip: 192.0.2.7\r\ncallid: a@b\r\n"
    b"from: <sip:caller@pbx>;tag=7\r\nfromtag: 7\r\nsip_application: audio\r\n\r\n"
)
START = b"start\r\ncallid: a@b\r\ndialogid: 2094:1043\r\n\r\n"
STOP = b"stop\r\ncallid: a@b\r\n\r\n"


class Fed(CallRequests):
    """Requests that are taken as soon as they are there."""

    def all_of(self, data: bytes) -> list[CallRequest]:
        self.feed(data)
        taken = []
        while self.waiting:
            taken.append(self.take())
        return taken


def verbs(requests: list[CallRequest]) -> list[str]:
    return [request.verb for request in requests]


def test_a_request_is_a_verb_and_its_fields() -> None:
    (request,) = Fed().all_of(INIT)
    assert request.verb == "init"
    assert request.fields == {
        "ruri": "sip:100@pbx",
        "diverter": "None",
        "sourceip": "192.0.2.7",
        "callid": "a@b",
        "from": "<sip:caller@pbx>;tag=7",
        "fromtag": "7",
        "sip_application": "audio",
    }


def test_a_verb_alone_is_a_request() -> None:
    assert Fed().all_of(b"STOP\r\n\r\n") == [CallRequest("stop", {})]


@given(st.lists(st.integers(1, len(INIT + START + STOP)), max_size=20))
def test_requests_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    data, requests, whole = INIT + START + STOP, Fed(), []
    places = [0, *sorted(cuts), len(data)]
    for begin, end in itertools.pairwise(places):
        whole += requests.all_of(data[begin:end])
    assert whole == Fed().all_of(data)
    assert not requests.unfinished


def test_a_request_that_is_not_there_to_its_end_is_unfinished() -> None:
    requests = Fed()
    assert requests.all_of(STOP + START[:-1]) == [CallRequest("stop", {"callid": "a@b"})]
    assert requests.unfinished
    assert verbs(requests.all_of(b"\n")) == ["start"]
    assert not requests.unfinished


def test_a_folded_header_makes_no_field_and_ends_no_request() -> None:
    folded = b'init\r\nfrom: "x\r\n callid: forged\r\n \r\n\tstop" <sip:a@b>\r\ncallid: real\r\n\r\n'
    (request,) = Fed().all_of(folded)
    assert request.fields["callid"] == "real"
    assert set(request.fields) == {"from", "callid"}


def test_of_a_field_that_comes_twice_the_first_counts() -> None:
    (request,) = Fed().all_of(b"stop\r\ncallid: first\r\ncallid: second\r\n\r\n")
    assert request.fields == {"callid": "first"}


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"st op\r\n\r\n",
        b"stop7\r\n\r\n",
        b"st\xc3\xb6p\r\n\r\n",
        b"stop\r\nno colon\r\n\r\n",
        b"init = 1 callid = a@b \r\n\r\n",
        b"s" * (limits.MAX_CALL_VERB + 1) + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        Fed().all_of(data)


def test_a_request_has_at_most_so_many_lines() -> None:
    lines = b"".join(b"f%d: x\r\n" % number for number in range(limits.MAX_CALL_REQUEST_LINES - 1))
    assert verbs(Fed().all_of(b"stop\r\n" + lines + b"\r\n")) == ["stop"]
    with pytest.raises(BadRequest, match="lines"):
        Fed().all_of(b"stop\r\n" + lines + b"more: x\r\n\r\n")


def test_a_request_has_at_most_so_many_bytes() -> None:
    fits = b"stop\r\nx: " + b"y" * (limits.MAX_CALL_REQUEST_BYTES - 9)
    assert verbs(Fed().all_of(fits + b"\r\n\r\n")) == ["stop"]
    with pytest.raises(BadRequest, match="bytes"):
        Fed().all_of(fits + b"y\r\n\r\n")
    with pytest.raises(BadRequest, match="bytes"):
        Fed().all_of(fits + b"yyy")


def test_a_verb_has_at_most_so_many_characters() -> None:
    assert verbs(Fed().all_of(b"s" * limits.MAX_CALL_VERB + b"\r\n\r\n")) == ["s" * limits.MAX_CALL_VERB]


@given(st.lists(st.binary() | st.sampled_from([b"\r\n", b"\r\n\r\n", b"stop", b"callid: a", INIT]), max_size=30))
def test_whatever_comes_is_a_request_or_refused(pieces: list[bytes]) -> None:
    requests = Fed()
    with contextlib.suppress(BadRequest):
        for piece in pieces:
            for request in requests.all_of(piece):
                assert request.verb.isalpha()
                assert all("\r\n" not in value for value in request.fields.values())


def test_what_waits_is_not_read_before_it_is_taken() -> None:
    requests = CallRequests()
    requests.feed(STOP + b"no verb\r\n\r\n")
    assert (requests.waiting, requests.alone) == (True, False)
    assert requests.take().verb == "stop"
    assert (requests.waiting, requests.alone) == (True, True)
    with pytest.raises(BadRequest, match="no verb"):
        requests.take()
