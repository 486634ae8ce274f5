"""Order books asked for over REST now and then, and recorded word for word: a second opinion for `orderflow verify`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NoReturn

import trio

from orderflow.core.errors import OrderflowError
from orderflow.core.text import escape_text
from orderflow.record.records import RestAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderflow.core.types import InstrumentId
    from orderflow.net.rest import RestClient
    from orderflow.record.recorder import Recorder

log = logging.getLogger(__name__)

MIN_PAUSE_S: Final = 0.1  # between two requests, however many symbols there are: a twelfth of what Bybit allows
LEVELS: Final = 200


async def record_rest_books(
    rest: RestClient,
    recorder: Recorder,
    instruments: Sequence[InstrumentId],
    every_s: float,
    clock: Callable[[], tuple[int, int]],
) -> NoReturn:
    """Ask for each book every `every_s`, evenly spread. What cannot be had is said once and tried again in its turn.

    Raises: whatever is a bug.
    """
    troubled = False
    pause_s = max(MIN_PAUSE_S, every_s / len(instruments))
    while True:
        for instrument in instruments:
            await trio.sleep(pause_s)
            sent_ns, _ = clock()
            try:
                body = await rest.orderbook_text(instrument, LEVELS)
            except OrderflowError as error:
                if not troubled:
                    log.warning("recording: no book from REST: %s", escape_text(str(error)))
                troubled = True
                continue
            troubled = False
            recv_ns, mono_ns = clock()
            recorder.rest(
                RestAnswer(
                    category=instrument.category,
                    symbol=instrument.symbol,
                    body=body,
                    sent_ns=sent_ns,
                    recv_ns=recv_ns,
                    mono_ns=mono_ns,
                )
            )
