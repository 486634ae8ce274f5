"""When a ping is due, and when silence is a verdict."""

from __future__ import annotations

import pytest

from orderflow.bybit.heartbeat import Heartbeat
from orderflow.core.errors import HeartbeatLost
from orderflow.core.policy import LinkPolicy
from orderflow.core.units import NS

POLICY = LinkPolicy(ping_interval_s=20, pong_timeout_s=10, idle_timeout_s=30)
START = 1000 * NS


def started(policy: LinkPolicy = POLICY) -> Heartbeat:
    beat = Heartbeat(policy)
    beat.start(START)
    return beat


def lost(beat: Heartbeat, at_ns: int) -> str:
    with pytest.raises(HeartbeatLost) as caught:
        beat.on_time(at_ns)
    return caught.value.reason


def test_a_ping_is_due_once_an_interval_and_only_after_the_last_was_answered() -> None:
    beat = started()
    assert beat.due_ns == START + 20 * NS
    assert not beat.on_time(START + 20 * NS - 1)
    assert beat.on_time(START + 20 * NS)
    assert beat.due_ns == START + 30 * NS  # the pong
    assert not beat.on_time(START + 20 * NS)
    beat.last_frame_ns = START + 25 * NS
    beat.pong()
    assert beat.pongs == 1
    assert beat.due_ns == START + 40 * NS
    assert not beat.on_time(START + 39 * NS)
    assert beat.on_time(START + 40 * NS)


def test_a_pong_that_is_late_by_nothing_is_a_loss_and_one_just_in_time_is_not() -> None:
    beat = started()
    beat.on_time(START + 20 * NS)
    beat.last_frame_ns = START + 29 * NS
    assert not beat.on_time(START + 30 * NS - 1)
    assert lost(beat, START + 30 * NS) == "pong"


def test_silence_is_a_loss_whatever_pings_say() -> None:
    beat = started(LinkPolicy(ping_interval_s=100, pong_timeout_s=10, idle_timeout_s=30))
    assert beat.due_ns == START + 30 * NS
    beat.last_frame_ns = START + NS
    assert beat.due_ns == START + 31 * NS
    assert not beat.on_time(START + 31 * NS - 1)
    assert lost(beat, START + 31 * NS) == "idle"


def test_forgiven_the_peer_gets_its_whole_time_again() -> None:
    beat = started()
    beat.on_time(START + 20 * NS)
    woken = START + 3600 * NS
    beat.forgive(woken)
    assert beat.due_ns == woken + 10 * NS
    assert not beat.on_time(woken + 10 * NS - 1)
    assert lost(beat, woken + 10 * NS) == "pong"


def test_forgiven_while_no_pong_is_owed_a_ping_goes_out_at_once() -> None:
    beat = started()
    woken = START + 3600 * NS
    beat.forgive(woken)
    assert beat.on_time(woken)
    assert beat.due_ns == woken + 10 * NS
