"""Runs the server of a bundle."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from tunekit.bundle import Bundle
from tunekit.errors import StudyError


def serve(
    folder: Path,
    host: str,
    port: int,
    *,
    token: str | None,
    threads: int,
    tell: Callable[[str, Mapping[str, str]], None],
) -> None:
    """Serve a bundle until it is ended.

    Args:
        folder: as `tunekit export` wrote it.
        host: address to listen on.
        port: to listen on; 0 for any that is free.
        token: see `make_app`.
        threads: that one prediction may use.
        tell: takes the lines that say where it is, each with the same for programs.

    Raises:
        BundleError: the folder holds no sound bundle.
        StudyError: the port is taken, the address is none of this machine, or the token is empty.
    """
    import uvicorn

    from tunekit.serve.app import make_app

    if token is not None and not token.strip():
        raise StudyError("the token is empty, which would let everybody in; expected some text, or no token at all")
    bundle = Bundle.load(folder, threads=threads, files=False)
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise StudyError(
            f"the server can't listen on {host}:{port}: {error}; choose another --port, or --host 127.0.0.1"
        ) from error
    if token is None and not _is_loopback(host):
        warning = f"{host} can be reached from other machines, and there is no --token: everybody may predict"
        tell(f"warning: {warning}", {"warning": warning})
    address = f"http://{host}:{listening.getsockname()[1]}"
    told = {"name": bundle.name, **{page: f"{address}/{page}" for page in ("predict", "docs", "health")}}
    tell(f"{bundle.name} is served at {address}/predict; {address}/docs shows how; Ctrl-C ends it", told)
    config = uvicorn.Config(make_app(bundle, token=token), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
