"""An authority made for one run, and a certificate of it for the loopback: what wss:// is measured with."""

from __future__ import annotations

import datetime
import ipaddress
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST: Final = "127.0.0.1"
_DAY: Final = datetime.timedelta(days=1)


class Papers(msgspec.Struct, frozen=True, kw_only=True):
    """Files in a folder only we can read. `ca_file`: for clients; `key_file`: the server's key and certificate."""

    ca_file: str
    key_file: str


@contextmanager
def papers() -> Iterator[Papers]:
    """Make both; they are gone with the block."""
    with tempfile.TemporaryDirectory(prefix="orderflow-bench-") as folder:
        ca_file, key_file = Path(folder, "authority.pem"), Path(folder, "server.pem")
        authority, server = _issue()
        ca_file.write_bytes(authority)
        key_file.write_bytes(server)
        yield Papers(ca_file=str(ca_file), key_file=str(key_file))


def _issue() -> tuple[bytes, bytes]:
    """PEM texts: the authority's certificate; the server's key and certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.datetime.now(datetime.UTC)
    blank = (
        x509.CertificateBuilder()
        .issuer_name(name("orderflow bench authority"))
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )
    signer = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    authority = (
        blank.subject_name(name("orderflow bench authority"))
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    certificate = (
        blank.subject_name(name("orderflow bench"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority.public_bytes(pem), secret + certificate.public_bytes(pem)
