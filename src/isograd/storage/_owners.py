"""Who writes a run: machine, process and its birth, so that two never share a file unawares."""

import os
import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Owner:
    """One process of one machine."""

    host: str
    pid: int
    birth: str
    """When the process began, in the system's own ticks; empty where the system does not say."""

    def alive(self) -> bool | None:
        """Whether it still runs; `None` where that cannot be told from here."""
        if self.host != platform.node() or os.name != "posix":
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it runs, and is somebody else's
            pass
        return not self.birth or _birth(self.pid) == self.birth


def me() -> Owner:
    """This process."""
    return Owner(platform.node(), os.getpid(), _birth(os.getpid()))


def _birth(pid: int) -> str:
    """Process ids come round again, in containers at once: only with its birth is one unique."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The name, in parentheses, may hold spaces: fields count from its end.
            return stat.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""
