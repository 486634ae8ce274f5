"""orderflow: real-time order flow for Bybit, on Trio."""

__version__ = "0.1.0"
