"""L2: Trio tasks around the sans-IO protocol. Imports core, bybit, trio, trio_websocket, httpx."""
