"""The simulated exchange: a faithful local Bybit V5. Imports core and bybit; loaded only for demo, sim and bench."""
