"""L3: views. Fed by channels with core types; they never reach into state."""
