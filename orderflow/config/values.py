"""One value: from the text of a variable or an option to its type, and the checks that need no other setting."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from orderflow.config.schema import Kind
from orderflow.core.text import escape_text
from orderflow.core.types import Category, parse_instrument

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.config.schema import Setting
    from orderflow.config.secrets import Secret

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?")
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_QUOTED: Final = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'")
_FLAGS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_PLUGIN_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.?)+")
PLACEHOLDER: Final = "{category}"


class Refused(Exception):
    """A value cannot be used. `expected` says what could; `show` whether the value may be shown."""

    def __init__(self, expected: str, *, show: bool = True) -> None:
        self.expected = expected
        self.show = show
        super().__init__(expected)


def convert(setting: Setting, value: Any) -> Any:
    """A typed value (from a file) as the setting's type, checked.

    Raises: Refused. Its text never holds the value of a secret.
    """
    try:
        converted = setting.convert(value)
    except msgspec.ValidationError as exc:
        raise Refused(_expected(setting, value, exc), show=setting.kind is not Kind.SECRET) from None
    if isinstance(converted, str) and not converted.isprintable():
        raise Refused("expected text without control characters")
    check = CHECKS.get(setting.key)
    if check is not None:
        check(converted)
    return converted


def from_text(setting: Setting, text: str) -> Any:
    """What the text of a variable or an option stands for, by the kind of the setting; unreadable text stays text.

    Numbers become numbers only where a number is wanted: a secret of digits stays text. TOML quotes are taken off.
    """
    kind = setting.kind
    if kind in (Kind.TEXT, Kind.SECRET):
        return unquoted(text)
    bare = text.strip()
    if kind is Kind.LIST:
        return _list(bare)
    if kind is Kind.FLAG:
        return _FLAGS.get(bare.lower(), text)
    if kind is Kind.NUMBER:
        return float(bare) if _NUMBER.fullmatch(bare) or _NOT_FINITE.fullmatch(bare) else text
    if kind is Kind.WHOLE or _WHOLE.fullmatch(bare):
        return int(bare) if _WHOLE.fullmatch(bare) else text
    return unquoted(bare)


def free_value(text: str) -> Any:
    """The text of a variable for a plugin's own table: a TOML value where it is one, else the text itself."""
    if "\n" in text or "\r" in text:
        return text
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def unquoted(text: str) -> str:
    """`text`, or what it says when it is one TOML string in quotes."""
    if _QUOTED.fullmatch(text):
        try:
            return str(tomllib.loads(f"value = {text}")["value"])
        except ValueError:
            return text
    return text


def _list(text: str) -> Any:
    if not text.startswith("["):
        return [item.strip() for item in text.split(",")] if text else []
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _expected(setting: Setting, value: Any, exc: msgspec.ValidationError) -> str:
    if setting.key == "category" and value in ("option", "options"):
        return f"options are out of scope; expected {setting.expected}"
    if isinstance(value, str) and setting.kind in (Kind.NUMBER, Kind.WHOLE, Kind.FLAG) and _NUMBER.fullmatch(value):
        return f"expected {setting.expected}, without quotes"
    return f"expected {setting.expected}"


# --- checks of single settings --------------------------------------------------------------------------------------


def _symbols(symbols: tuple[str, ...]) -> None:
    if not symbols:
        raise Refused("expected at least one symbol such as BTCUSDT or spot:BTCUSDT")
    problems: list[str] = []
    for symbol in symbols:
        try:
            parse_instrument(symbol, Category.LINEAR)
        except ValueError as exc:
            problems.append(escape_text(str(exc)))
    if problems:
        raise Refused("; ".join(problems))


def _api_key(key: Secret | None) -> None:
    text = key.reveal() if key else ""
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise Refused("expected text without blanks, control or foreign characters")


def _api_secret(secret: Secret | None) -> None:
    text = secret.reveal() if secret else ""
    lines = text.strip("\r\n").splitlines() if text.startswith("-----BEGIN ") else [text]
    if not all(line.isascii() and line.isprintable() for line in lines) or text != text.lstrip(" ").rstrip(" "):
        raise Refused("expected text without control or foreign characters, or a private key in PEM form")


def _plugin_names(names: tuple[str, ...]) -> None:
    for name in names:
        if not _PLUGIN_NAME.fullmatch(name):
            raise Refused("expected plugin names: a small letter, then small letters, digits, `_` or `-`")
    if len(set(names)) != len(names):
        raise Refused("expected every plugin once")


def _folders(folders: tuple[str, ...]) -> None:
    for folder in folders:
        if not folder.strip("./") and not folder.startswith("/"):
            raise Refused("expected folders by name: plugins are never loaded from the working directory itself")
        if not folder.isprintable():
            raise Refused("expected folders without control characters in their names")


def _host(host: str) -> None:
    if not _is_host(host):
        raise Refused("expected a host name or an IP address")


def _address(*schemes: str, empty: bool, placeholder: bool = False) -> Callable[[str], None]:
    def check(text: str) -> None:
        if not (text or empty):
            raise Refused(f"expected a {schemes[0]}:// address")
        if text:
            check_address(text, schemes, placeholder=placeholder)

    return check


def check_address(text: str, schemes: tuple[str, ...], *, placeholder: bool) -> None:
    """Raises: Refused unless `text` is an absolute address of one of `schemes` that names a possible host and port."""
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    if not text.isascii() or " " in text or "\\" in text:
        raise Refused(f"expected a {wanted} address of plain ASCII without blanks (write other names in punycode)")
    if text.count("{") != text.count(PLACEHOLDER) or text.count("}") != text.count(PLACEHOLDER):
        raise Refused("expected no braces other than {category}")
    if PLACEHOLDER in text and not placeholder:
        raise Refused("expected no {category} here: this address is the same for all categories")
    try:
        parts = urlsplit(text.replace(PLACEHOLDER, "linear"))
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Refused(f"expected a {wanted} address with a valid host and port") from None
    if parts.scheme not in schemes:
        raise Refused(f"expected an address that begins with {wanted}")
    if not host or not _is_host(host) or port == 0:
        raise Refused(f"expected a {wanted} address with a valid host and port")
    if "@" in parts.netloc:
        raise Refused("expected no user name or password in an address", show=False)
    if "#" in text:
        raise Refused("expected no # in an address", show=False)


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(_HOST_NAME.fullmatch(host)) and not host.replace(".", "").isdigit()
    return True


def is_plain_and_remote(address: str) -> bool:
    """Whether a (checked) address is neither encrypted nor on this machine."""
    parts = urlsplit(address)
    return parts.scheme in ("ws", "http") and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by its name or number; no name is looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


CHECKS: Final[dict[str, Callable[[Any], None]]] = {
    "symbols": _symbols,
    "bybit.public_ws_url": _address("wss", "ws", empty=False, placeholder=True),
    "bybit.private_ws_url": _address("wss", "ws", empty=True),
    "bybit.rest_url": _address("https", "http", empty=True),
    "bybit.api_key": _api_key,
    "bybit.api_secret": _api_secret,
    "plugins.enabled": _plugin_names,
    "plugins.isolated": _plugin_names,
    "plugins.folders": _folders,
    "sim.host": _host,
}
