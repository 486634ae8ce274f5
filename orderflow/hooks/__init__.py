"""L1: the plugin border. Imports core and pluggy only."""
