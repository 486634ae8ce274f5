"""L0: pure logic. No trio, no clock, no sockets, no files, no logging, no settings."""
