"""A word while kernels are compiled, which takes a while and happens once."""

from __future__ import annotations

import sys

from numba.core import event
from numba.core.caching import NullCache


class Announcement(event.Listener):
    """Says on stderr that kernels are being compiled, when the first of ours is."""

    said = False

    def on_start(self, started: event.Event) -> None:
        """Numba calls this before it compiles a function, and on_end after it."""
        dispatcher = started.data["dispatcher"]
        ours = (dispatcher.py_func.__module__ or "").startswith("tinyresnet.")
        if ours and not self.said:
            self.said = True
            kept = not isinstance(dispatcher._cache, NullCache)
            outlook = "later starts find them ready" if kept else "set NUMBA_CACHE_DIR to a folder that can keep them"
            print(f"tinyresnet: compiling kernels for this machine; {outlook}", file=sys.stderr)

    def on_end(self, ended: event.Event) -> None:
        pass


def announce_compilation() -> None:
    """Listen to Numba from now on."""
    event.register("numba:compile", Announcement())
