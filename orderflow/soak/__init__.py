"""`orderflow soak`: the real monitor against the simulated exchange, random faults, every promise checked."""
