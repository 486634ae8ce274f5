"""Other people's market data: archives, trade files and JSON lines, read in small pieces and turned into recordings."""
