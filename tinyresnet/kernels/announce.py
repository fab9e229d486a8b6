"""A word while kernels are compiled, which takes a while and happens once."""

from __future__ import annotations

import sys

from numba.core import event


class Announcement(event.Listener):
    """Says on stderr that kernels are being compiled, when the first of ours is."""

    said = False

    def on_start(self, event: event.Event) -> None:
        ours = event.data["dispatcher"].py_func.__module__.startswith("tinyresnet.")
        if ours and not self.said:
            self.said = True
            print("tinyresnet: compiling kernels for this machine; later starts find them ready", file=sys.stderr)

    def on_end(self, event: event.Event) -> None:
        pass


def announce_compilation() -> None:
    event.register("numba:compile", Announcement())
