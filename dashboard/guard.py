"""Who may ask: requests are answered only under the names this server goes by, and over a network only with its token."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable

from flask import Flask, Response, request

COOKIE = "dcsim-token"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether an address to bind to is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def guard(server: Flask, names: Iterable[str], token: str | None) -> None:
    """Refuse requests under other host names (a page elsewhere whose name was made to point here), or without the token.

    `names` are those this server answers to; empty: to any, which only a token allows.
    """
    known = frozenset(names)
    if not known and token is None:
        raise ValueError("a server that answers to any name needs a token")

    @server.before_request
    def check() -> Response | None:
        if known and _name(request.host) not in known:
            return Response("this server does not go by that name", 400, mimetype="text/plain")
        if token is None or _same(request.cookies.get(COOKIE, ""), token):
            return None
        if _same(request.values.get("token", "") if request.path == "/" else "", token):
            answer = Response(status=303, headers={"Location": "/"})
            answer.set_cookie(COOKIE, token, httponly=True, samesite="Strict")
            return answer
        return Response(_ASK, 401, mimetype="text/html")

    @server.after_request
    def say(answer: Response) -> Response:
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["X-Frame-Options"] = "DENY"
        answer.headers["Referrer-Policy"] = "same-origin"
        return answer


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


_ASK = """<!doctype html><html lang="en"><head><title>dcsim</title><meta name="viewport" content="width=device-width">
<style>body{font:16px system-ui,sans-serif;max-width:26em;margin:18vh auto;padding:0 1em}
input,button{font:inherit;padding:.4em}</style>
</head><body><main><h1>dcsim</h1><form method="post" action="/"><p><label for="token">This server asks for its token, which it
printed when it was started.</label></p><p><input id="token" name="token" type="password" autofocus> <button>Go in</button></p>
</form></main></body></html>"""
