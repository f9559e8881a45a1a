"""A PostgreSQL server of our own for tests and benchmarks, if its programs are on this machine."""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

PASSWORD = "pass/word:with@odd{characters}%"
"""Of the server's owner."""

OWNER = "postgres"


class CannotStart(Exception):
    """Why there is no server."""


class Server:
    """A server that listens on this machine only.

    Args:
        folder: for its data, readable by its owner.
        fsync: whether commits survive a loss of power; tests needn't wait for that.
    """

    def __init__(self, folder: Path, *, fsync: bool) -> None:
        self.folder = folder
        if importlib.util.find_spec("psycopg") is None:
            raise CannotStart('psycopg is not installed; pip install "tunekit[postgres]"')
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        found = shutil.which("initdb")
        if not programs and found is None:
            raise CannotStart("neither /usr/lib/postgresql/*/bin nor PATH has initdb; apt-get install postgresql")
        self._programs = programs[-1] if programs else Path(str(found)).parent
        self.port = _free_port()
        (folder / "password").write_text(PASSWORD)
        self._run(
            "initdb", f"--username={OWNER}", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync"
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": folder,
            "fsync": "on" if fsync else "off",
            "max_connections": 50,
        }
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "--wait", f"--log={self.folder / 'log'}", "start")

    def stop(self) -> None:
        """Stop it at once; who is connected loses the connection."""
        self._run("pg_ctl", "--wait", "--mode=immediate", "stop")

    def new_database(self) -> str:
        """The address of a database that is empty."""
        import psycopg

        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.address(name)

    def address(self, database: str, password: str = PASSWORD) -> str:
        """The address of a database."""
        return f"postgresql://{OWNER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), f"--pgdata={self.folder / 'data'}", *arguments]
        if os.getuid() == 0:  # which it refuses to run as
            command = ["runuser", "-u", OWNER, "--", *command]
        told = self.folder / f"{program}.txt"
        with told.open("w") as output:  # not a pipe: the server would keep it open
            try:
                subprocess.run(command, check=True, stdout=output, stderr=output, cwd=self.folder)
            except (OSError, subprocess.CalledProcessError) as error:
                raise CannotStart(f"{error}: {told.read_text()[-500:]}") from None


@contextmanager
def running_server(*, fsync: bool = False) -> Iterator[Server]:
    """A server, for a while; see `Server`.

    Raises:
        CannotStart: it can't be.
    """
    folder = Path(tempfile.mkdtemp(prefix="tunekit-postgres-"))
    server = None
    try:
        if os.getuid() == 0:
            try:
                shutil.chown(folder, OWNER, OWNER)
            except LookupError:
                raise CannotStart(f"there is no user {OWNER!r}, and root may not run it") from None
        server = Server(folder, fsync=fsync)
        server.start()
        yield server
    finally:
        if server is not None:
            with suppress(CannotStart):
                server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
