"""How much memory a process holds."""

from __future__ import annotations

import subprocess
from pathlib import Path


def resident_mb(pid: int) -> tuple[float, float]:
    """Resident memory of a process now and at its peak, in MB (2**20 bytes).

    Not getrusage's figure for the peak: on Linux that begins with what the parent held at the fork.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:  # no such file system: ps knows the present value alone
        listed = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True)
        now = int(listed.stdout) / 1024
        return now, now
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    now, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak
