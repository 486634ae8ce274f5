"""The simulated exchange: a faithful local Bybit V5. Imports core and bybit; the program imports it only for demo and sim."""
