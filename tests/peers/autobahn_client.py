"""orderflow's link as the client of Autobahn's fuzzing server: every text message is sent back.

    wstest -m fuzzingserver -s autobahn.json    # docs/testing.md has the file and how to get wstest
    python -m tests.peers.autobahn_client [ws://127.0.0.1:9001]

The report is written by the server. Sizes are unlimited here; the limits on fragments stay as they are in a run.
"""

from __future__ import annotations

import math
import sys

import trio

from orderflow.core.errors import OrderflowError
from orderflow.core.policy import LinkPolicy
from orderflow.net.ws import open_ws

_AGENT = "orderflow"
_POLICY = LinkPolicy(max_message_bytes=64 * 1024 * 1024, send_timeout_s=60)
_CASE_TIMEOUT_S = 60


async def converse(url: str) -> tuple[list[bytes], str]:
    """Send back what comes until the link ends; returns the messages and why it ended."""
    messages: list[bytes] = []
    echo, heard = trio.open_memory_channel[bytes](math.inf)

    def on_batch(batch: list[bytes], recv_ns: int, mono_ns: int) -> None:
        for message in batch:
            messages.append(message)
            echo.send_nowait(message)

    with trio.move_on_after(_CASE_TIMEOUT_S):
        try:
            async with open_ws(url, on_batch, _POLICY) as link:
                async for message in heard:
                    await link.send(message.decode())
        except OrderflowError as error:
            return messages, str(error)
    return messages, "timeout"


async def main(server: str) -> None:
    (count,), _ = await converse(f"{server}/getCaseCount")
    for case in range(1, int(count) + 1):
        _, ended = await converse(f"{server}/runCase?case={case}&agent={_AGENT}")
        print(f"{case}/{int(count)} {ended}", flush=True)  # noqa: T201 - a tool for people
    await converse(f"{server}/updateReports?agent={_AGENT}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:9001")
