"""What Prometheus is told: the names of the contract, fixed labels, every number of the picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orderflow.ui.prometheus import render
from tests.ui.test_metrics_doc import STATS

CONTRACT = {
    "orderflow_link_up": {"link"},
    "orderflow_link_connects_total": {"link"},
    "orderflow_link_losses_total": {"link", "reason"},
    "orderflow_link_retry_seconds": {"link"},
    "orderflow_frames_total": {"link"},
    "orderflow_frames_refused_total": {"link", "reason"},
    "orderflow_book_state": {"category", "symbol", "state"},
    "orderflow_book_age_seconds": {"category", "symbol"},
    "orderflow_book_gaps_total": {"category", "symbol"},
    "orderflow_book_coverage_ratio": {"category", "symbol"},
    "orderflow_book_gap_seconds_total": {"category", "symbol"},
    "orderflow_book_resyncs_total": {"category", "symbol", "reason"},
    "orderflow_topics_refused_total": {"link"},
    "orderflow_queue_depth": {"channel"},
    "orderflow_queue_overruns_total": {"channel"},
    "orderflow_loop_lag_seconds": set(),
    "orderflow_clock_offset_seconds": set(),
    "orderflow_plugin_failures_total": {"plugin"},
    "orderflow_plugin_seconds": {"plugin"},
    "orderflow_plugin_disabled": {"plugin"},
    "orderflow_acks_missing_total": {"link"},
    "orderflow_frames_unknown_total": {"link"},
    "orderflow_stalls_total": set(),
    "orderflow_clock_steps_total": set(),
    "orderflow_rest_requests_total": set(),
    "orderflow_rest_failures_total": set(),
    "orderflow_rest_retries_total": set(),
    "orderflow_rest_pauses_total": set(),
    "orderflow_rest_held_back_total": set(),
    "orderflow_output_lines_total": set(),
    "orderflow_output_lines_dropped_total": set(),
    "orderflow_output_errors_total": set(),
    "orderflow_http_served_total": set(),
    "orderflow_http_refused_total": {"reason"},
    "orderflow_http_cut_total": set(),
    "orderflow_http_failed_total": set(),
}
VALUES = {
    ("orderflow_link_up", "linear"): 1,
    ("orderflow_link_connects_total", "linear"): 2,
    ("orderflow_link_losses_total", "linear", "eof"): 1,
    ("orderflow_frames_total", "linear"): 5000,
    ("orderflow_frames_refused_total", "linear", "json"): 1,
    ("orderflow_book_state", "linear", "BTCUSDT", "live"): 1,
    ("orderflow_book_state", "linear", "BTCUSDT", "stale"): 0,
    ("orderflow_book_age_seconds", "linear", "BTCUSDT"): 0.012,
    ("orderflow_book_resyncs_total", "linear", "BTCUSDT", "gap"): 1,
    ("orderflow_book_coverage_ratio", "linear", "BTCUSDT"): 0.991428,
    ("orderflow_book_gap_seconds_total", "linear", "BTCUSDT"): 1.9,
    ("orderflow_queue_depth", "events"): 0,
    ("orderflow_loop_lag_seconds",): 0.0002,
    ("orderflow_clock_offset_seconds",): 0.00124,
    ("orderflow_plugin_seconds", "spread"): 0.0012,
    ("orderflow_plugin_disabled", "spread"): 0,
    ("orderflow_frames_unknown_total", "linear"): 3,
    ("orderflow_rest_requests_total",): 51,
    ("orderflow_rest_failures_total",): 2,
    ("orderflow_rest_pauses_total",): 1,
    ("orderflow_rest_held_back_total",): 4,
    ("orderflow_output_lines_dropped_total",): 17,
    ("orderflow_http_served_total",): 9,
    ("orderflow_http_refused_total", "host"): 1,
    ("orderflow_http_cut_total",): 2,
}


def test_names_labels_and_values() -> None:
    content_type, body = render(STATS, "")
    assert content_type.startswith("text/plain")
    samples = [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]
    assert {sample.name: set(sample.labels) for sample in samples} == CONTRACT
    values = {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}
    assert {(name, *sorted(labels)): value for (name, *labels), value in VALUES.items()}.items() <= values.items()


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "text/plain", "*/*", "nonsense;;q"])
def test_the_format_is_the_one_asked_for(accept: str) -> None:
    content_type, body = render(STATS, accept)
    assert content_type.startswith(accept.partition(";")[0] if "openmetrics" in accept else "text/plain")
    assert body.endswith(b"# EOF\n") == ("openmetrics" in accept)


def test_every_name_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    documented = dict(re.findall(r"^\| `(orderflow_\w+)` \| ([\w, ]*)\|", page, re.MULTILINE))
    assert {name: set(re.findall(r"\w+", labels)) for name, labels in documented.items()} == CONTRACT
