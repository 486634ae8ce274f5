"""L1: Bybit's V5 protocol, sans-IO. Imports core and msgspec only."""
