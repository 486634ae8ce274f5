"""`--metrics-port` on the whole program."""

from __future__ import annotations

import http.client
import re
import socket
from pathlib import Path

import pytest

from orderflow.config.load import load
from orderflow.core.errors import ConfigError
from tests.faults.program import Exchange, Program, environment, nowhere

pytestmark = pytest.mark.socket


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def scrape(port: int, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/metrics", headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def listening(pid: int) -> set[str]:
    """Addresses (hex, as the kernel writes them) on which the process accepts connections."""
    inodes = {Path(f"/proc/{pid}/fd/{fd.name}").resolve().name for fd in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and any(fields[9] in inode for inode in inodes):
                found.add(fields[1])
    return found


def test_counters_over_http(tmp_path: Path, exchange: Exchange, port: int) -> None:
    with Program(tmp_path, *exchange.options, "--metrics-port", str(port)) as program:
        program.until_live()
        status, text = scrape(port)
        assert status == 200
        assert 'orderflow_link_up{link="linear"} 1.0' in text
        assert 'orderflow_book_state{category="linear",state="live",symbol="BTCUSDT"} 1.0' in text
        assert listening(program.process.pid) == {f"0100007F:{port:04X}"}  # 127.0.0.1, and nothing else
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        code, took_s = program.stop()
        for client in idle:
            client.close()
    assert code == 0
    assert took_s < 2


def test_clients_one_would_rather_not_have(tmp_path: Path, exchange: Exchange, port: int) -> None:
    """Foreign ones, silent ones and far too many: refused, counted wherever counters are told, and the feed goes on."""
    options = ["--metrics-port", str(port), "--interval", "0.1"]
    environ = environment(ORDERFLOW_METRICS_HTTP__TOKEN="open-sesame")
    limits = ["--set", "stats_interval_s=0.2", "--set", "metrics_http.timeout_s=0.5"]
    with Program(tmp_path, *exchange.options, *options, *limits, environ=environ) as program:
        program.until_live()
        assert scrape(port)[0] == 401
        key = {"Authorization": "Bearer open-sesame"}
        assert scrape(port, Host="rebound.example", **key)[0] == 403
        assert scrape(port, Origin="http://rebound.example", **key)[0] == 403
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        program.until(lambda event: event["event"] == "stats" and event["server"]["refused"].get("busy", 0) > 30)
        seen = len(program.lines)
        ticks = [program.until(lambda event: event["event"] == "tick", since=seen) for _ in range(3)]
        assert all(tick["state"] == "live" for tick in ticks)
        program.until(lambda event: event["event"] == "stats" and event["server"]["cut"] >= 16)
        for client in crowd:
            client.close()
        status, text = scrape(port, **key)
        assert status == 200
        assert re.search(r'orderflow_http_refused_total{reason="busy"} [34]\d\.0', text)
        assert 'orderflow_http_refused_total{reason="host"} 1.0' in text
        assert program.stop()[0] == 0
    server = program.events[-1]["stats"]["server"]
    assert {reason: server["refused"][reason] for reason in ("host", "origin", "token")} == {
        "host": 1,
        "origin": 1,
        "token": 1,
    }
    assert server["served"] == 1


def test_without_the_option_nothing_listens(tmp_path: Path) -> None:
    with Program(tmp_path, *nowhere()) as program:
        program.until(lambda event: event["event"] == "feed")
        assert listening(program.process.pid) == set()
        program.stop()


def test_a_port_that_is_taken_is_told_before_anything_is_connected(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Program(tmp_path, *nowhere(), "--metrics-port", str(taken.getsockname()[1])) as program,
    ):
        assert program.end() == 2
    assert "cannot listen on 127.0.0.1" in program.stderr
    assert program.lines == []


@pytest.mark.parametrize(
    "environ, problem",
    [
        ({"HOST": "0.0.0.0"}, "allow_remote"),
        ({"HOST": "::"}, "allow_remote"),
        ({"HOST": "10.0.0.1", "ALLOW_REMOTE": "true"}, "token"),
        ({"HOST": "10.0.0.1", "TOKEN": "t"}, "allow_remote"),
        ({"HOST": "example.com"}, "IP address"),
        ({"HOST": "0.0.0.0", "ALLOW_REMOTE": "true", "TOKEN": "t"}, ""),
        ({"HOST": "::1"}, ""),
        ({"HOST": "localhost"}, ""),
        ({"HOST": "127.0.0.2"}, ""),
    ],
)
def test_other_machines_need_a_setting_and_a_token(tmp_path: Path, environ: dict[str, str], problem: str) -> None:
    variables = {f"ORDERFLOW_METRICS_HTTP__{key}": value for key, value in environ.items()}
    if not problem:
        load(environ=variables, directory=tmp_path)
        return
    with pytest.raises(ConfigError, match=r"metrics_http\.host") as caught:
        load(environ=variables, directory=tmp_path)
    assert problem in str(caught.value)
