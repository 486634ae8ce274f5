"""``python -m orderflow``."""

from orderflow.cli import entry

if __name__ == "__main__":
    entry()
