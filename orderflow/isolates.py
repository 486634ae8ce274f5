"""Isolated plugins of a live run: calls wait in bounded queues, threads wait for the answers, the feed for nobody."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from orderflow.hooks.loading import PluginProblems
from orderflow.net.fanout import DropOldest, QueueStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from orderflow.core.types import Alert
    from orderflow.hooks.calling import Outcome
    from orderflow.hooks.host import PluginHost
    from orderflow.hooks.isolate import Call, Isolate
    from orderflow.hooks.process import Died

BATCH: Final = 64
"""Calls a thread is given at once: passing each on its own costs more than making it."""


class Isolates:
    """Every isolated plugin of a host while the program runs.

    When a queue is full the oldest call that waits is dropped and counted: the newest ticks matter.

    Args: limit: calls that may wait for one plugin; deliver: given the alerts, in the event loop.
    """

    def __init__(self, host: PluginHost, limit: int, deliver: Callable[[list[Alert]], None]) -> None:
        self._keepers = [_Keeper(host, isolate, limit, deliver) for isolate in host.isolates]

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve them all until cancelled."""
        async with trio.open_nursery() as nursery:
            for keeper in self._keepers:
                keeper.open()
                nursery.start_soon(keeper.run)
            task_status.started()

    async def settled(self) -> None:
        """Wait until every call that was made has its outcome, or never will have one."""
        for keeper in self._keepers:
            await keeper.idle.wait()

    def statistics(self) -> QueueStatistics:
        """All queues together; `peak` is that of the fullest."""
        every = [keeper.queue.statistics() for keeper in self._keepers]
        return QueueStatistics(
            depth=sum(one.depth for one in every),
            peak=max((one.peak for one in every), default=0),
            overruns=sum(one.overruns for one in every),
        )


class _Keeper:
    """Looks after one plugin and its process."""

    def __init__(self, host: PluginHost, isolate: Isolate, limit: int, deliver: Callable[[list[Alert]], None]) -> None:
        self.queue: DropOldest[Call] = DropOldest(limit)
        self.idle = trio.Event()
        self.idle.set()
        self._host = host
        self._isolate = isolate
        self._deliver = deliver
        self._limiter = trio.CapacityLimiter(1)  # its own: a plugin that hangs takes no thread from anybody

    def open(self) -> None:
        """From now on calls wait here."""
        self._isolate.post = self._post

    def _post(self, call: Call) -> None:
        if self.idle.is_set():
            self.idle = trio.Event()
        self.queue.put(call)

    async def run(self) -> None:
        """Have calls answered until cancelled, or until the plugin is disabled."""
        try:
            await self._serve()
        finally:
            self._isolate.post = _nobody
            if self.idle.is_set():
                self._isolate.farewell()  # it may still put its things in order; the host waits a little for it
            else:
                self._isolate.kill()  # the thread that waits for an answer learns that there is none
            self.idle.set()

    async def _serve(self) -> None:
        from orderflow.hooks.process import Died

        while True:
            if not self.queue.statistics().depth:
                self.idle.set()
            calls = deque([await self.queue.receive()])
            calls += self.queue.receive_more(BATCH - 1)
            while calls:
                try:
                    await self._in_thread(partial(self._ask, calls, trio.lowlevel.current_trio_token()))
                except Died as death:
                    hook, _ = calls.popleft()
                    if not await self._survive(death, hook):
                        return

    def _ask(self, calls: deque[Call], token: trio.lowlevel.TrioToken) -> None:
        """Make these calls, in a thread; each leaves `calls` once it is answered. Raises: Died."""
        while calls:
            hook, argument = calls[0]
            outcome = self._isolate.ask(hook, argument)
            calls.popleft()
            token.run_sync_soon(self._settle, hook, outcome)

    def _settle(self, hook: str, outcome: Outcome) -> None:
        self._deliver(self._host.settle(self._isolate, hook, outcome))

    async def _survive(self, death: Died, hook: str) -> bool:
        """Count a death and launch the process again, each time later. Returns: False when the plugin is given up."""
        from orderflow.hooks.isolate import failed
        from orderflow.hooks.process import Died

        while not self._isolate.ended:  # disabled for what it answered before
            outcome = failed(death, hook, self._isolate.source.path)
            wait_s = self._isolate.bury(death, hook)
            outcome.fatal = "" if wait_s is not None else outcome.error
            self._settle(hook, outcome)
            if wait_s is None:
                break
            await trio.sleep(wait_s)
            try:
                self._isolate.launch()
                await self._in_thread(self._isolate.begin_loading)
                await self._in_thread(self._isolate.wait_ready)
                await self._in_thread(self._isolate.begin_again)
                return True
            except PluginProblems as exc:
                death = Died(f"the plugin could not be loaded again: {exc}")
            except Died as exc:
                death = exc
        return False

    async def _in_thread(self, work: Callable[[], object]) -> None:
        await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)


def _nobody(call: Call) -> None:
    """The program ends: nobody answers any more."""
