"""L3: the sole reader of settings. Everything else is handed a frozen Struct."""
