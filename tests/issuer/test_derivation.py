"""Derived secrets: fixed for ever, for a key in a customer's hands cannot be derived anew."""

from __future__ import annotations

import datetime
import hashlib
import hmac

from featurekeyd.issuer.derivation import (
    RESCUE_DAYS,
    rescue_code,
    rescue_seed,
    usb_access_code,
    usb_answer,
    usb_secret,
)
from featurekeyd.policy.rescue import rescue_step

MASTER = bytes(range(32))
DAY = datetime.date(2026, 1, 31)


def prefixed(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def test_known_derivations_do_not_drift() -> None:
    assert usb_secret(MASTER, "7654321", simulated=False).hex() == "a362a0e2f557d2994523d233c2d09ddeed3877a1"
    assert usb_secret(MASTER, "7654321", simulated=True).hex() == "a0d75ce90df0665365f48a35fe53475882954162"
    assert usb_access_code(MASTER, "7654321", simulated=False).hex() == "402c081e04c1"
    assert usb_access_code(MASTER, "7654321", simulated=True).hex() == "7b739bfe01aa"
    assert rescue_seed(MASTER, "120123456789", None).hex() == "b82d394afccb56083fcf5e87227ffcde1886b4bf"
    assert (
        rescue_code(rescue_seed(MASTER, "120123456789", None), RESCUE_DAYS).hex()
        == "671467e0a1ec09acaa0b0db927acccc276176fb3"
    )
    assert rescue_seed(MASTER, "120123456789", DAY).hex() == "566b28ffd9813af6e9d217dd9ae2289745f509d9"


def test_the_usb_secret_is_the_first_20_bytes_of_the_hmac_over_label_and_serial_number() -> None:
    whole = hmac.new(MASTER, prefixed(b"featurekeyd usb secret", b"7654321"), hashlib.sha256).digest()
    assert usb_secret(MASTER, "7654321", simulated=False) == whole[:20]


def test_another_key_purpose_or_master_gives_another_secret() -> None:
    secrets = {
        usb_secret(MASTER, "7654321", simulated=False),
        usb_secret(MASTER, "7654321", simulated=True),
        usb_secret(MASTER, "7654322", simulated=False),
        usb_secret(bytes(32), "7654321", simulated=False),
        rescue_seed(MASTER, "7654321", None),
        rescue_seed(MASTER, "7654321", DAY),
        rescue_seed(MASTER, "7654321", DAY + datetime.timedelta(days=1)),
    }
    assert len(secrets) == 7
    assert not any(secret.startswith(usb_access_code(MASTER, "7654321", simulated=False)) for secret in secrets)


def test_the_answer_of_the_documented_trace_is_reproduced() -> None:
    # facts/hardware.md section 2, traces: secret 01 to 14, challenge "hello".
    secret = bytes(range(1, 21))
    assert usb_answer(secret, b"hello").hex() == "61232556fab861c4f772dcc4ae3f1968632025a0"


def test_the_code_of_a_day_is_found_by_hashing_forward_to_the_anchor() -> None:
    seed = rescue_seed(MASTER, "120123456789", DAY)
    anchor = rescue_code(seed, RESCUE_DAYS)
    for day in (0, 1, 1000, RESCUE_DAYS):
        code = rescue_code(seed, RESCUE_DAYS - day)
        assert len(code) == 20
        for _ in range(day):
            code = rescue_step(code)
        assert code == anchor


def test_a_step_of_the_chain_is_sha256_over_label_and_value_cut_to_20_bytes() -> None:
    assert rescue_step(bytes(20)) == hashlib.sha256(prefixed(b"featurekeyd rescue step", bytes(20))).digest()[:20]
