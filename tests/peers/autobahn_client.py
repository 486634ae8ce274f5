"""orderflow's link as the client of Autobahn's fuzzing server: every message is sent back.

    wstest -m fuzzingserver -s autobahn.json    # docs/testing.md has the file and how to get wstest
    python -m tests.peers.autobahn_client [ws://127.0.0.1:9001]

Prints what the server says of each case, and fails unless all passed strictly. Sizes and fragments are unlimited here,
binary messages are taken, and what came before a violation may still be answered; in a run of the program not.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter

import trio

from orderflow.core.errors import OrderflowError
from orderflow.core.policy import LinkPolicy
from orderflow.net.frames import BinaryMessage, FrameCutter
from orderflow.net.ws import open_ws

_AGENT = "orderflow"
_POLICY = LinkPolicy(send_timeout_s=60)
_MAX_BYTES = 64 * 1024 * 1024
_MAX_FRAGMENTS = 1024 * 1024
_ANSWER_S = 0.2
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
            cutter = FrameCutter(_MAX_BYTES, max_fragments=_MAX_FRAGMENTS, binary=True)
            async with open_ws(url, on_batch, _POLICY, cutter=cutter, answer_s=_ANSWER_S) as link:
                async for message in heard:
                    await link.send(message if isinstance(message, BinaryMessage) else message.decode())
        except OrderflowError as error:
            return messages, str(error)
    return messages, "timeout"


async def main(server: str) -> None:
    (count,), _ = await converse(f"{server}/getCaseCount")
    tally: Counter[str] = Counter()
    for case in range(1, int(count) + 1):
        _, ended = await converse(f"{server}/runCase?case={case}&agent={_AGENT}")
        (status,), _ = await converse(f"{server}/getCaseStatus?case={case}&agent={_AGENT}")
        behavior = json.loads(status)["behavior"]
        tally[behavior] += 1
        print(f"{case}/{int(count)} {behavior}: {ended}", flush=True)  # noqa: T201 - a tool for people
    await converse(f"{server}/updateReports?agent={_AGENT}")
    print(dict(tally))  # noqa: T201
    if tally.keys() - {"OK", "INFORMATIONAL"}:
        sys.exit(1)


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:9001")
