"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A loaded machine is no failure: neither a slow example nor slow making of examples says anything about the program.
# Half of Hypothesis's usual examples keep the suite short; HYPOTHESIS_EXAMPLES=1000 asks for more.
settings.register_profile(
    "orderflow",
    deadline=None,
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "50")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("orderflow")
