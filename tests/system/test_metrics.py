"""The metrics of the real daemon: printed, as a file and over HTTP; and its alarms."""

from __future__ import annotations

import http.client
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import rig
from featurekeyd.client.metrics import METRICS

TRUNKS, PORT = "sip-trunk-channels", "trunk:carrier-a"


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[rig.Licensed]:
    """A site of eight trunks with a contract for four on one port, and two calls there."""
    with rig.licensed_site(tmp_path, ceilings={PORT: 4}) as it:
        kamailio = it.site.client("kamailio")
        for number in range(2):
            assert kamailio.acquire(f"call-{number}", TRUNKS, port=PORT, phase="established").allowed
        yield it


def samples(text: str) -> dict[str, float]:
    """The samples by name, with labels where there are any."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def until(good: Callable[[], object]) -> None:
    """Wait until it is so, for a limited time."""
    deadline = time.monotonic() + rig.DEADLINE
    while not good():
        assert time.monotonic() < deadline, "it never came"


def test_what_is_printed_is_what_the_daemon_has_counted(busy: rig.Licensed) -> None:
    site = busy.site
    kamailio = site.client("kamailio")
    for number in range(2, 5):
        kamailio.acquire(f"call-{number}", TRUNKS, port=PORT, phase="established")
    assert not kamailio.acquire("strange", "no-such-feature").allowed
    kamailio.acquire("help", (), dialed="112", call_class="emergency")
    found = samples(site.ctl("metrics").out)
    assert found["featurekeyd_up"] == found["featurekeyd_standing{standing=licensed}"] == 1
    assert found[f"featurekeyd_feature_limit{{feature={TRUNKS}}}"] == 8
    assert found[f"featurekeyd_feature_in_use{{feature={TRUNKS}}}"] == 4
    assert found[f"featurekeyd_feature_granted_total{{feature={TRUNKS}}}"] == 4
    assert found[f"featurekeyd_denied_total{{feature={TRUNKS},reason=ceiling_reached}}"] == 1
    assert found["featurekeyd_denied_total{feature=,reason=unknown_feature}"] == 1
    assert found["featurekeyd_decisions_total{decision=deny}"] == 2
    assert found[f"featurekeyd_port_in_use{{port={PORT}}}"] == 4
    assert found["featurekeyd_emergency_calls_total"] == 1
    assert found["featurekeyd_holder_leases{holder=kamailio}"] == 5
    assert found["featurekeyd_turn_seconds_count"] >= 7
    assert found["featurekeyd_simulated"] == 1


def test_every_metric_of_the_document_can_be_seen(busy: rig.Licensed) -> None:
    site = busy.site
    site.import_list(_with_a_term(busy))
    kamailio = site.client("kamailio")
    for number in range(2, 5):
        kamailio.acquire(f"call-{number}", TRUNKS, port=PORT, phase="established")
    lists = {"holder": "kamailio", "scope": "registrations", "leases": [], "ttl_seconds": 3600}
    site.call("License.Sync", lists)
    site.call("Manage.CheckNow")
    until(lambda: site.status()["alarms"])
    shown = set(re.findall(r"^# TYPE (\w+)", site.ctl("metrics").out, re.M))
    assert METRICS.keys() - shown <= {"featurekeyd_rescue_left_seconds"}, "only a rescue shows that one"
    assert shown <= METRICS.keys()


def _with_a_term(it: rig.Licensed) -> str:
    it.vendor.issue(it.serial, "vcm-channels:4", term="year")
    return it.vendor.license_list(it.serial)


def test_the_file_follows_the_daemon(busy: rig.Licensed, tmp_path: Path) -> None:
    site, path = busy.site, tmp_path / "textfile" / "featurekeyd.prom"
    path.parent.mkdir()
    assert site.ctl("metrics", "--textfile", str(path)).status == 0
    assert samples(path.read_text())["featurekeyd_up"] == 1
    site.kill()
    assert site.ctl("metrics", "--textfile", str(path)).status == 3
    assert samples(path.read_text()) == {"featurekeyd_up": 0}
    assert [it.name for it in path.parent.iterdir()] == [path.name]


def scrape(port: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=rig.DEADLINE)
    try:
        connection.request("GET", "/metrics")
        reply = connection.getresponse()
        assert reply.status == 200
        return samples(reply.read().decode())
    finally:
        connection.close()


def test_the_exporter_outlives_the_daemon(busy: rig.Licensed) -> None:
    site = busy.site
    with site.start_ctl("metrics", "--listen", "127.0.0.1:0") as exporter:
        line = exporter.output.wait("metrics at http://127.0.0.1:")
        port = int(line.rpartition(":")[2].partition("/")[0])
        assert scrape(port)[f"featurekeyd_feature_in_use{{feature={TRUNKS}}}"] == 2
        site.kill()
        assert scrape(port) == {"featurekeyd_up": 0}
        exporter.errors.wait("is featurekeyd running?")
        site.start()
        found = scrape(port)
        assert found["featurekeyd_up"] == 1
        assert found[f"featurekeyd_feature_in_use{{feature={TRUNKS}}}"] == 2
        assert found["featurekeyd_decisions_total{decision=allow}"] == 0, "counters begin anew with the daemon"


def test_an_alarm_is_told_once_in_log_watch_status_and_metrics(busy: rig.Licensed) -> None:
    site = busy.site
    kamailio = site.client("kamailio")
    with site.watch() as events:
        for number in range(2, 4):
            assert kamailio.acquire(f"call-{number}", TRUNKS, port=PORT, phase="established").allowed
        event = events.wait("alarm", f"4 of 4 calls on port {PORT} are in use")
    assert (event["limit"], event["in_use"]) == (4, 4)
    site.log.wait("warning alarm_raised: Nearly full: 4 of 4 calls on port")
    (alarm,) = site.status()["alarms"]
    assert (alarm["port"], alarm["limit"], alarm["in_use"]) == (PORT, 4, 4)
    assert samples(site.ctl("metrics").out)[f"featurekeyd_alarm{{feature=,port={PORT}}}"] == 1
    assert f"NEARLY FULL {PORT}: 4 of 4 in use" in site.ctl("status").out
    for _ in range(20):
        assert kamailio.release("call-3")
        assert kamailio.acquire("call-3", TRUNKS, port=PORT, phase="established").allowed
    assert str(site.log).count("alarm_raised") == 1


def test_alarms_are_set_by_a_reload(busy: rig.Licensed) -> None:
    site = busy.site
    site.write_settings(alarms={"raise_percent": 50, "clear_percent": 10})
    assert site.daemon is not None
    site.daemon.signal(signal.SIGHUP)
    site.log.wait("settings_read_anew")
    site.log.wait("alarm_raised: Nearly full: 2 of 4 calls on port")


def test_alarms_of_features_that_there_are_not_stop_the_start(tmp_path: Path) -> None:
    with rig.Site(tmp_path, alarms={"features": {"no-such-feature": {"off": True}}}) as site:
        (tmp_path / "vendor" / "public").mkdir(parents=True)
        ran = site.run_daemon("--check")
    assert ran.status == 1
    assert "alarms.features.no-such-feature: the catalog has no such feature" in ran.err
