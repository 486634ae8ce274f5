"""`orderflow bench`: how fast this program is on this machine, next to what was promised."""
