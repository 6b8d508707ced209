"""What the log says of a machine and of a process, from /proc; standard library alone."""

import os
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """A processor: its name, its widest vector instructions ("AVX-512", "AVX2" or "SSE"), its cores."""

    processor: str
    instructions: str
    cores: int


def this_machine(cpuinfo: Path = CPUINFO) -> Machine:
    """Read what this machine is."""
    fields: dict[str, str] = {}
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    widest = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "SSE"
    return Machine(fields.get("model name", "unknown"), widest, os.cpu_count() or 1)


def core_seconds(pid: int) -> float:
    """Return the processor time that the session of a process and its ended children have used; 0 when it is gone.

    A training of two processes is one session: the first one starts the other.
    """
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since it was listed
        if int(fields[3]) == pid:
            ticks += sum(int(value) for value in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def is_held(pid: int) -> bool:
    """Whether a process is stopped by SIGSTOP or gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return True
