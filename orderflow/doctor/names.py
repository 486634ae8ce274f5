"""Name look-up of one host."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

import trio

from orderflow.doctor.findings import Blame, Check, failed, passed

DNS_S: Final = 8.0
_SHOWN: Final = 3


async def check_name(host: str, port: int) -> list[Check]:
    name = f"dns {host}"
    fix = "check the network, /etc/resolv.conf and the host's name in the settings"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [passed(name, "an address: nothing to look up")]
    try:
        with trio.fail_after(DNS_S):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except trio.TooSlowError:
        return [failed(name, f"no answer in {DNS_S:g} s", fix, Blame.NETWORK)]
    except OSError as exc:  # gaierror is one
        return [failed(name, exc.strerror or type(exc).__name__, fix, Blame.NETWORK)]
    except UnicodeError:
        return [failed(name, "this cannot be a host's name", fix, Blame.SETTINGS)]
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
    return [passed(name, f"{', '.join(addresses[:_SHOWN])}{more}")]
