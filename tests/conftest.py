"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A loaded machine is no failure: neither a slow example nor slow making of examples says anything about the program.
settings.register_profile("orderflow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("orderflow")
