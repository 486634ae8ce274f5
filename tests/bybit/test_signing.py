"""Signatures against the protocol page's vectors, the exchange's checks, and that nothing is ever shown."""

from __future__ import annotations

import base64
import json
import pickle
import traceback
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from orderflow.bybit import signing
from orderflow.bybit.signing import MaskedText, Signer, verify_rest, verify_ws_auth
from orderflow.config.secrets import Secret
from orderflow.core.errors import ConfigError

KEY = "simKey0001"
SECRET = "simSecret-abcdefghijklmnop"
EXPIRES = 1790000005000
WS_SIGNATURE = "48a46ff0fdcd71e597842ed8ac6bdcf61c2f1e96f3df7cb8e775e63fc1380d3a"
NOW = 1790000000000
BODY = (
    '{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.010","price":"86500.0",'
    '"timeInForce":"PostOnly"}'
)
REST_VECTORS = [
    ("category=linear&symbol=BTCUSDT", "7b2c22d749d192d374a138ae4b1eef6d768c5215f66fb4981a8f462d1ab032d2"),
    (BODY, "f1f6ab07ccafc61b5ac6648cc6ccb90cb4c93396acbb4bbe93bd611c32f6fc65"),
]


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return str(key.private_bytes(Encoding.PEM, form, NoEncryption()).decode())


def public_pem(key: rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture(params=["plain", "secret", "newline"])
def signer(request: pytest.FixtureRequest) -> Signer:
    return {
        "plain": lambda: Signer(KEY, SECRET),
        "secret": lambda: Signer(Secret(KEY), Secret(SECRET)),
        "newline": lambda: Signer(KEY, SECRET + "\n"),  # as read from a file or a shell
    }[request.param]()


def test_ws_vector(signer: Signer) -> None:
    assert signer.ws_auth_args(EXPIRES) == [KEY, EXPIRES, WS_SIGNATURE]
    assert signer.kind == "hmac"


@pytest.mark.parametrize("payload, signature", REST_VECTORS)
def test_rest_vectors(signer: Signer, payload: str, signature: str) -> None:
    assert dict(signer.rest_headers(NOW, 5000, payload)) == {
        "X-BAPI-API-KEY": KEY,
        "X-BAPI-TIMESTAMP": "1790000000000",
        "X-BAPI-RECV-WINDOW": "5000",
        "X-BAPI-SIGN": signature,
        "X-BAPI-SIGN-TYPE": "2",
    }


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("escaped", [False, True])
def test_rsa_signs_the_same_text(rsa_key: rsa.RSAPrivateKey, form: PrivateFormat, escaped: bool) -> None:
    pem = private_pem(rsa_key, form)
    signer = Signer(KEY, pem.replace("\n", "\\n") if escaped else pem)
    assert signer.kind == "rsa"
    signature = signer.ws_auth_args(EXPIRES)[2]
    raw = base64.b64decode(str(signature), validate=True)
    rsa_key.public_key().verify(raw, f"GET/realtime{EXPIRES}".encode(), padding.PKCS1v15(), SHA256())


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "ключ", "x" * 201])
def test_a_key_that_cannot_stand_in_a_header_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="api_key"):
        Signer(key, SECRET)


@pytest.mark.parametrize("secret", ["", " \n"])
def test_an_empty_secret_is_refused(secret: str) -> None:
    with pytest.raises(ConfigError, match="api_secret"):
        Signer(KEY, secret)


def test_other_pem_is_refused(rsa_key: rsa.RSAPrivateKey) -> None:
    curve = private_pem(ec.generate_private_key(ec.SECP256R1()))
    for pem in (curve, public_pem(rsa_key), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"):
        with pytest.raises(ConfigError, match="api_secret"):
            Signer(KEY, pem)


# --- the exchange's checks ----------------------------------------------------------------------------------------


def secrets(key: str) -> str | None:
    return SECRET if key == KEY else None


@pytest.mark.parametrize(
    "args, now_ms, proven",
    [
        ([KEY, EXPIRES, WS_SIGNATURE], NOW, KEY),
        ([KEY, EXPIRES, WS_SIGNATURE], EXPIRES - 1, KEY),
        ([KEY, EXPIRES, WS_SIGNATURE], EXPIRES, None),  # must lie in the future on arrival
        ([KEY, EXPIRES + 1, WS_SIGNATURE], NOW, None),
        (["other", EXPIRES, WS_SIGNATURE], NOW, None),
        ([KEY, EXPIRES, WS_SIGNATURE.upper()], NOW, None),
        ([KEY, EXPIRES, ""], NOW, None),
        ([KEY, EXPIRES, "ü"], NOW, None),
        ([KEY, str(EXPIRES), WS_SIGNATURE], NOW, None),
        ([KEY, True, WS_SIGNATURE], NOW, None),
        ([KEY, EXPIRES], NOW, None),
        ([], NOW, None),
        (None, NOW, None),
        ("abc", NOW, None),
    ],
)
def test_verify_ws_auth(args: object, now_ms: int, proven: str | None) -> None:
    assert verify_ws_auth(args, secrets, now_ms) == proven


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize(
    "change, server_ms, code",
    [
        ({}, NOW, signing.OK),
        ({}, NOW + 5000, signing.OK),
        ({}, NOW + 5001, signing.OUTSIDE_WINDOW),
        ({}, NOW - 999, signing.OK),
        ({}, NOW - 1000, signing.OUTSIDE_WINDOW),
        ({"x-bapi-recv-window": "60000"}, NOW, signing.BAD_SIGNATURE),
        ({"x-bapi-api-key": "other"}, NOW, signing.UNKNOWN_KEY),
        ({"x-bapi-timestamp": "now"}, NOW, signing.BAD_PARAMETER),
        ({"x-bapi-timestamp": "1" * 400}, NOW, signing.BAD_PARAMETER),
        ({"x-bapi-sign": ""}, NOW, signing.BAD_SIGNATURE),
    ],
)
def test_verify_rest(change: dict[str, str], server_ms: int, code: int) -> None:
    headers = lower(Signer(KEY, SECRET).rest_headers(NOW, 5000, "symbol=BTCUSDT")) | change
    assert verify_rest(headers, "symbol=BTCUSDT", secrets, server_ms) == code


def test_verify_rest_without_headers() -> None:
    assert verify_rest({}, "", secrets, NOW) == signing.UNKNOWN_KEY


@settings(deadline=None)  # a loaded machine is no failure
@given(payload=st.text(max_size=60), other=st.text(max_size=60))
def test_only_what_was_signed_verifies(payload: str, other: str) -> None:
    headers = lower(Signer(KEY, SECRET).rest_headers(NOW, 5000, payload))
    assert verify_rest(headers, payload, secrets, NOW) == signing.OK
    assert (verify_rest(headers, other, secrets, NOW) == signing.OK) == (payload == other)


@pytest.mark.parametrize("half", ["public", "private"])
def test_verify_rsa(rsa_key: rsa.RSAPrivateKey, half: str) -> None:
    args = Signer(KEY, private_pem(rsa_key)).ws_auth_args(EXPIRES)
    pem = public_pem(rsa_key) if half == "public" else private_pem(rsa_key)
    assert verify_ws_auth(args, lambda _: pem, NOW) == KEY
    assert verify_ws_auth([KEY, EXPIRES, "not base64!"], lambda _: pem, NOW) is None
    assert verify_ws_auth([KEY, EXPIRES, WS_SIGNATURE], lambda _: pem, NOW) is None


# --- nothing is shown ---------------------------------------------------------------------------------------------

CANARY_KEY = "canaryKEYvalue0001"
CANARY_SECRET = "canarySECRETvalue-zyxwvu"


def shown_forms(signer: Signer) -> list[str]:
    """Everything of these credentials that must stay hidden, also encoded and cut short."""
    args = signer.ws_auth_args(EXPIRES)
    signature = signer.rest_headers(NOW, 5000, "a=b")["X-BAPI-SIGN"]
    plain = [CANARY_KEY, CANARY_SECRET, str(args[2]), str(signature)]
    encoded = [base64.b64encode(text.encode()).decode().rstrip("=")[:-1] for text in plain]
    return [*plain, *encoded, *(text[:8] for text in plain)]


def test_canary_in_every_repr() -> None:
    signer = Signer(CANARY_KEY, CANARY_SECRET)
    args = signer.ws_auth_args(EXPIRES)
    headers = signer.rest_headers(NOW, 5000, "a=b")
    shown = "\n".join(
        [
            *(repr(thing) for thing in (signer, args, headers, tuple(args), {"h": headers}, signer.sign("x"))),
            str(signer),
            str(headers),
            f"{signer} {args} {headers} {signer.sign('x')} {signer.sign('x'):>80}",
            signer.redact(f"error sign! origin_string[{NOW}{CANARY_KEY}5000] {CANARY_SECRET}"),
        ]
    )
    for hidden in shown_forms(signer):
        assert hidden not in shown


def test_what_the_exchange_repeats_in_part_is_not_shown_either() -> None:
    signer = Signer(CANARY_KEY, CANARY_SECRET)
    hidden = [CANARY_KEY, CANARY_SECRET, *(str(signer.ws_auth_args(EXPIRES + i)[2]) for i in range(3))]
    for value in hidden:
        for length in range(6, len(value) + 1):
            assert signer.redact(f"bad {value[:length]}! {value[:length]}") == "bad ***! ***"
        assert signer.redact(value[:5]) == value[:5], "an ordinary word"
    assert signer.redact(f"{CANARY_KEY}{CANARY_SECRET}") == "******"


def test_that_a_secret_is_a_pem_is_no_secret(rsa_key: rsa.RSAPrivateKey) -> None:
    signer = Signer(CANARY_KEY, private_pem(rsa_key))
    signature = str(signer.sign("x"))
    assert signer.redact(f"-----BEGIN {signature[:20]}") == "-----BEGIN ***"
    assert signer.redact(private_pem(rsa_key)) == "***"


def frames_of(key: str, secret: str) -> str:
    """What a traceback with local variables prints of our module's frames when the credentials are refused."""
    try:
        Signer(Secret(key), Secret(secret))
    except ConfigError as exc:
        report = "".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format())
        return report.partition("orderflow/bybit/signing.py")[2]
    return ""


def test_canary_in_tracebacks(rsa_key: rsa.RSAPrivateKey) -> None:
    body = private_pem(rsa_key).splitlines()[2]
    broken = private_pem(rsa_key).replace("M", "!", 1)
    for key, secret in [(CANARY_KEY + " ", CANARY_SECRET), (CANARY_KEY, broken)]:
        frames = frames_of(key, secret)
        assert "ConfigError" in frames
        assert not any(hidden in frames for hidden in (CANARY_KEY, CANARY_SECRET, body[:24]))


def test_signers_are_not_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Signer(KEY, SECRET))


def test_masked_text_is_sent_whole() -> None:
    """Masking must not reach the wire."""
    assert json.dumps([MaskedText("abc")]) == '["abc"]'
    assert MaskedText("abc").encode() == b"abc"
