"""Serve the dashboard with waitress: threads enough for some twenty people, on the loopback interface unless told otherwise."""

from __future__ import annotations

import secrets
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import waitress

from dashboard.app import make_app
from dashboard.guard import LOOPBACK_NAMES, is_loopback
from dcsim.errors import Problem, SpecError

THREADS = 8


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that listens: its address, and the token that it asks for, if it does."""

    server: Any
    listener: socket.socket
    url: str
    token: str | None

    def run(self) -> None:
        """Serve until interrupted."""
        with self.listener:
            self.server.run()


def serve(store: Path, host: str = "127.0.0.1", port: int = 8050, token: str | None = None) -> Serving:
    """Listen on an address. Elsewhere than on loopback a token is asked for: the one given, or one made here.

    Raises SpecError where the address cannot be used.
    """
    local = is_loopback(host)
    token = token or (None if local else secrets.token_urlsafe(18))
    # Any name leads to an address that many interfaces have; the token is what lets people in.
    names = LOOPBACK_NAMES | {host} if local else frozenset()
    listener = _listen(host, port)
    app = make_app(store, names=names, token=token)
    threading.Thread(target=_warm, daemon=True).start()
    server = waitress.create_server(
        app.server, sockets=[listener], threads=THREADS, ident=None, clear_untrusted_proxy_headers=True
    )
    shown = f"[{host}]" if ":" in host else host
    return Serving(server, listener, f"http://{shown}:{listener.getsockname()[1]}", token)


def _warm() -> None:
    """Load what the first page asks for while its reader still types the address."""
    import plotly.graph_objects  # noqa: F401  # before the first visitor asks

    from dcsim.study import side_by_side

    side_by_side.code_version()
    for network in side_by_side.NETWORKS:
        side_by_side.has_library(network)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise SpecError(Problem("--port", f"{port} is no port", "0 to 65535"))
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise SpecError(Problem("--host", f"'{host[:100]}' is no address of this machine", "127.0.0.1 or 0.0.0.0")) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SpecError(f"--port: {port} cannot be used on {host}") from error
    return listener
