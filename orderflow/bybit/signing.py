"""Signatures of WebSocket auth frames and REST requests, and the checks the simulated exchange makes of them.

Two kinds of key exist: HMAC-SHA256 (lower-case hex) and RSA (RSASSA-PKCS1-v1_5 with SHA-256, base64); a secret that is
a PEM private key means RSA. Nothing here shows a secret, a signature or a key: not in a repr, not in an exception.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from orderflow.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

MASK: Final = "***"
HEADER_KEY: Final = "X-BAPI-API-KEY"
HEADER_TIMESTAMP: Final = "X-BAPI-TIMESTAMP"
HEADER_WINDOW: Final = "X-BAPI-RECV-WINDOW"
HEADER_SIGN: Final = "X-BAPI-SIGN"
HEADER_SIGN_TYPE: Final = "X-BAPI-SIGN-TYPE"

DEFAULT_WINDOW_MS: Final = 5000
AHEAD_MS: Final = 1000  # a timestamp this far ahead of the exchange is refused whatever the window

OK: Final = 0
BAD_PARAMETER: Final = 10001
OUTSIDE_WINDOW: Final = 10002
UNKNOWN_KEY: Final = 10003
BAD_SIGNATURE: Final = 10004

CREDENTIAL_CODES: Final[dict[int, str]] = {
    UNKNOWN_KEY: "the API key is not valid here (mainnet, testnet and demo have keys of their own)",
    BAD_SIGNATURE: "the signature is wrong: check the API secret",
    10005: "the API key lacks the permission",
    10007: "authentication failed",
    10008: "the account is banned",
    10010: "the API key is bound to other IP addresses",
}
"""What the exchange's verdicts on credentials mean."""

_MIN_REDACTED: Final = 4  # a shorter key would blank innocent text
_FIRST_CHARS: Final = 6  # as few of a key's or a signature's first characters as may not be shown
_REMEMBERED: Final = 16


class Revealing(Protocol):
    """Something that holds a secret and gives it away only on request (config.secrets.Secret is one)."""

    def reveal(self) -> str: ...


class MaskedText(str):
    """Text that carries a signature or a key: sent, never shown. `repr` and `format` give `***`, the text is kept."""

    __slots__ = ()

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK


class MaskedHeaders(dict[str, str]):
    """HTTP headers that carry a signature: `repr` gives `***`."""

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__


class _Plain:
    """A bare string wrapped so that no repr shows it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return MASK


class Signer:
    """One API key and its secret, ready to sign.

    Args: key, secret: plain text or anything with `reveal()`; the secret is an HMAC secret or a PEM private key (line
        breaks written as a backslash and an n, as environment variables need them, are understood).
    Raises: ConfigError when the key cannot stand in a header, or the secret is empty or an unreadable private key.
    """

    __slots__ = ("_key", "_rsa", "_secret", "_signed")

    def __init__(self, key: Revealing | str, secret: Revealing | str) -> None:
        self._key = _hold(key)
        self._secret = _hold(secret)
        self._rsa: RSAPrivateKey | None = None
        self._signed: deque[_Plain] = deque(maxlen=_REMEMBERED)  # the last signatures, for `redact`
        if not re.fullmatch(r"[!-~]{1,200}", self._key.reveal()):
            raise ConfigError("bybit.api_key: expected printable ASCII without blanks")
        if not self._secret.reveal().strip():
            raise ConfigError("bybit.api_secret: empty; expected the HMAC secret or a PEM private key")
        if is_pem(self._secret.reveal()):
            self._rsa = _load_private(self._secret)

    def __repr__(self) -> str:
        return f"Signer({'rsa' if self._rsa else 'hmac'}, {MASK})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a signer is not pickled")

    @property
    def kind(self) -> str:
        """`hmac` or `rsa`."""
        return "rsa" if self._rsa else "hmac"

    def sign(self, text: str) -> MaskedText:
        """Signature of `text`: lower-case hex (HMAC) or base64 (RSA)."""
        rsa = self._rsa
        signature = _sign_rsa(rsa, text.encode()) if rsa is not None else _hmac_hex(self._secret, text.encode())
        self._signed.append(_Plain(signature))
        return MaskedText(signature)

    def ws_auth_args(self, expires_ms: int) -> list[str | int]:
        """The `args` of an auth frame: key, expiry (exchange time, ms), signature."""
        return [MaskedText(self._key.reveal()), expires_ms, self.sign(f"GET/realtime{expires_ms}")]

    def rest_headers(self, timestamp_ms: int, window_ms: int, payload: str) -> MaskedHeaders:
        """Headers that authenticate one request.

        Args: payload: the query string exactly as sent after `?` (GET) or the body exactly as sent (POST);
            timestamp_ms: exchange time; window_ms: how old the request may be on arrival.
        """
        key = self._key.reveal()
        return MaskedHeaders(
            {
                HEADER_KEY: key,
                HEADER_TIMESTAMP: str(timestamp_ms),
                HEADER_WINDOW: str(window_ms),
                HEADER_SIGN: self.sign(f"{timestamp_ms}{key}{window_ms}{payload}"),
                HEADER_SIGN_TYPE: "2",
            }
        )

    def redact(self, text: str) -> str:
        """`text` without the key, the secret and the last signatures, nor what they begin with.

        The exchange repeats the key in some of its error texts, and nobody knows what it may repeat tomorrow.
        """
        hidden = [held.reveal() for held in (self._key, self._secret, *self._signed)]
        return _redacted(text, [value for value in hidden if len(value) >= _MIN_REDACTED])


def _redacted(text: str, hidden: Sequence[str]) -> str:
    """`text` with every run masked that one of `hidden` begins with; of those that begin at one place, the longest."""
    least = {value: len(value) if is_pem(value) else min(len(value), _FIRST_CHARS) for value in hidden}
    starts = dict.fromkeys(hidden, -1)
    pieces: list[str] = []
    seen = 0
    while True:
        for value, start in starts.items():
            if start < seen:
                found = text.find(value[: least[value]], seen)
                starts[value] = found if found >= 0 else len(text)
        start = min(starts.values(), default=len(text))
        if start == len(text):
            return "".join([*pieces, text[seen:]])
        pieces += [text[seen:start], MASK]
        seen = max(_run_end(text, start, value) for value, at in starts.items() if at == start)


def _run_end(text: str, start: int, value: str) -> int:
    """Where `text`, from `start` on, is no longer what `value` begins with."""
    end = start
    while end < len(text) and end - start < len(value) and text[end] == value[end - start]:
        end += 1
    return end


def is_pem(text: str) -> bool:
    """Whether a secret is a key in PEM form rather than an HMAC secret."""
    return text.lstrip().startswith("-----BEGIN ")


# --- the exchange's side ------------------------------------------------------------------------------------------


def verify_ws_auth(args: object, secret_of: Callable[[str], Revealing | str | None], now_ms: int) -> str | None:
    """The key an auth frame's `args` prove, or None when they prove nothing (`Params Error` on the wire).

    Args: args: decoded JSON, [key, expires, signature]; secret_of: the HMAC secret, or the PEM public (or private) key,
        of an API key, None when the key is unknown; now_ms: the exchange's clock.
    """
    match args:
        case [str(key), int(expires), str(signature)] if not isinstance(expires, bool):
            secret = secret_of(key)
            if secret is None or expires <= now_ms:
                return None
            return key if _verify(secret, f"GET/realtime{expires}", signature) else None
        case _:
            return None


def verify_rest(
    headers: Mapping[str, str], payload: str, secret_of: Callable[[str], Revealing | str | None], now_ms: int
) -> int:
    """retCode of a signed request's credentials: 0, or 10001 to 10004.

    Args: headers: looked up by the exact lower-case name; payload: query string or body as received; the rest as in
        verify_ws_auth.
    """
    key = headers.get(HEADER_KEY.lower(), "")
    stamp = headers.get(HEADER_TIMESTAMP.lower(), "")
    window = headers.get(HEADER_WINDOW.lower(), "") or str(DEFAULT_WINDOW_MS)
    secret = secret_of(key)
    if secret is None:
        return UNKNOWN_KEY
    if not (_is_count(stamp) and _is_count(window)):
        return BAD_PARAMETER
    if not now_ms - int(window) <= int(stamp) < now_ms + AHEAD_MS:
        return OUTSIDE_WINDOW
    signed = f"{stamp}{key}{headers.get(HEADER_WINDOW.lower(), '')}{payload}"
    return OK if _verify(secret, signed, headers.get(HEADER_SIGN.lower(), "")) else BAD_SIGNATURE


def _is_count(text: str) -> bool:
    return len(text) <= 16 and text.isascii() and text.isdigit()


def _verify(secret: Revealing | str, text: str, signature: str) -> bool:
    held = _hold(secret)
    if is_pem(held.reveal()):
        return _verify_rsa(_load_public(held), text.encode(), signature)
    return hmac.compare_digest(_hmac_hex(held, text.encode()).encode(), signature.encode())


# --- primitives ---------------------------------------------------------------------------------------------------


def _hold(value: Revealing | str) -> Revealing:
    return _Plain(value) if isinstance(value, str) else value


def _hmac_hex(secret: Revealing, data: bytes) -> str:
    return hmac.new(secret.reveal().strip().encode(), data, hashlib.sha256).hexdigest()


def _pem_bytes(secret: Revealing) -> bytes:
    return secret.reveal().strip().replace("\\n", "\n").encode()


def _load_private(secret: Revealing) -> RSAPrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        loaded: object = load_pem_private_key(_pem_bytes(secret), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        loaded = None  # the library's message may quote what it could not read, so it is not chained
    if not isinstance(loaded, RSAPrivateKey):
        raise ConfigError("bybit.api_secret: not a readable RSA private key (PEM, no passphrase)")
    return loaded


def _load_public(secret: Revealing) -> RSAPublicKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if " PRIVATE KEY-----" in secret.reveal():
        return _load_private(secret).public_key()
    try:
        loaded: object = load_pem_public_key(_pem_bytes(secret))
    except ValueError:
        loaded = None
    if not isinstance(loaded, RSAPublicKey):
        raise ConfigError("not a readable RSA public key (PEM)")
    return loaded


def _sign_rsa(key: RSAPrivateKey, data: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    return base64.b64encode(key.sign(data, PKCS1v15(), SHA256())).decode()


def _verify_rsa(key: RSAPublicKey, data: bytes, signature: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key.verify(base64.b64decode(signature, validate=True), data, PKCS1v15(), SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
