"""The run's own authority vouches for its server and for nobody else."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from orderflow.bench.certificate import HOST, papers


def _shake_hands(ca_file: str, key_file: str, host: str) -> None:
    """A TLS handshake in memory. Raises: ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(key_file)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(up, down, server_side=True)
    client = ssl.create_default_context(cafile=ca_file).wrap_bio(down, up, server_hostname=host)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    client.do_handshake()
    server.do_handshake()


def test_a_client_of_the_authority_trusts_the_server() -> None:
    with papers() as tls:
        _shake_hands(tls.ca_file, tls.key_file, HOST)


def test_another_authority_or_another_host_is_not_trusted() -> None:
    with papers() as tls, papers() as other:
        with pytest.raises(ssl.SSLCertVerificationError):
            _shake_hands(other.ca_file, tls.key_file, HOST)
        with pytest.raises(ssl.SSLCertVerificationError):
            _shake_hands(tls.ca_file, tls.key_file, "127.0.0.2")


def test_the_files_are_gone_with_the_block() -> None:
    with papers() as tls:
        assert Path(tls.key_file).stat().st_mode & 0o077 == 0 or Path(tls.key_file).parent.stat().st_mode & 0o077 == 0
    assert not Path(tls.key_file).exists()
    assert not Path(tls.ca_file).exists()
