"""What the vendor needs to know of this system, for the request of a certificate and for that of a check."""

from __future__ import annotations

from featurekeyd.policy.request_text import Request

from .site import Site
from .version import VERSION
from .wire import MANAGE, error_reply


def request_of(site: Site) -> Request | bytes:
    """The request as the Feature Key was found last, or the error reply where nothing could be read of it."""
    enforcer, seen = site.enforcer, site.trusting.feature_key
    if seen.kind is None or seen.hardware_id is None or seen.assurance is None:
        about = {"state": seen.state, "finding": seen.finding}
        return error_reply(f"{MANAGE}.FeatureKeyNotReadable", about)
    return Request(
        kind=seen.kind,
        hardware_id=seen.hardware_id,
        assurance=seen.assurance,
        reader=seen.reader,
        simulated=seen.simulated,
        catalog=enforcer.catalog.id,
        platform=enforcer.system.platform,
        serial=enforcer.licenses.serial,
        version=VERSION,
    )
