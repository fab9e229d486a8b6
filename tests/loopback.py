"""A web server on this machine that misbehaves as told, and surroundings in which a download touches nothing of ours."""

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from weights_converter import download


def isolate(tmp_path, monkeypatch):
    """Caches and home in tmp_path, no proxy, no pauses."""
    for name in ("TINYRESNET_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("TINYRESNET_OFFLINE", raising=False)
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0))


@contextmanager
def servers():
    """A function: the k-th request gets the k-th answer, further ones the last; it returns address and Range headers."""
    running = []

    def serve(*answers):
        ranges = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                ranges.append(self.headers.get("Range"))
                answers[min(len(ranges), len(answers)) - 1](self)

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/weights.pth", ranges

    yield serve
    for server in running:
        server.shutdown()
        server.server_close()


def answer(status=200, body=b"", cut=None, **headers):
    """Send this, but of the body only `cut` bytes; a header that is None is left out."""
    def send(handler):
        handler.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            if value is not None:
                handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body[:cut])
    return send


def ranged(body, cut=None):
    """Send what is asked for, as a server does that knows ranges; at most `cut` bytes of it."""
    def send(handler):
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        facts = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        answer(206 if start else 200, body[start:], cut, **facts)(handler)
    return send


def names_in(folder):
    """The files in a folder; locks are left there for ever."""
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))
