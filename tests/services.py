"""Real servers for tests: a throw-away PostgreSQL cluster, Redis, RabbitMQ, and one that speaks S3.

Each starts once a session, on a free port of the loopback, when the first test asks for it. A missing program is a
failure that names the Debian package, never a skip: what is not tested should not look tested.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from kombu import Connection, Queue
from kombu.exceptions import KombuError
from psycopg import sql

START_S = 60
RABBIT_START_S = 600  # half a minute on a busy machine, and more than four minutes on one that is overrun
PASSWORD = "correct-horse-battery"  # noqa: S105  of a throw-away server


def free_port() -> int:
    """Find a port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str, package: str, *folders: str) -> str:
    """Find a program, or fail with the Debian package that has it."""
    found = shutil.which(
        name, path=os.pathsep.join([*folders, os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/bin"])
    )
    if found is None:
        pytest.fail(f"{name} is missing, which these tests run for real: apt-get install {package}", pytrace=False)
    return found


def unprivileged() -> pwd.struct_passwd | None:
    """Name the user to run a server as that refuses to be root; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    pytest.fail("PostgreSQL does not run as root, and there is neither a user postgres nor nobody", pytrace=False)


def as_user(user: pwd.struct_passwd | None) -> list[str]:
    """Begin a command that runs as a user and ends when the tests are killed."""
    command = [program("setpriv", "util-linux"), "--pdeathsig", "INT"]
    if user is not None:
        command += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*command, "--"]


@contextmanager
def running(
    command: Sequence[str],
    *,
    ready: Callable[[], bool],
    folder: Path,
    stop: signal.Signals = signal.SIGTERM,
    env: Mapping[str, str] | None = None,
    start_s: float = START_S,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; its output is in the folder, and shown when it does not start."""
    output = folder / "output.txt"
    with output.open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder, env=env
        )
    try:
        deadline = time.monotonic() + start_s
        while not ready():
            if server.poll() is not None or time.monotonic() > deadline:
                said = output.read_text(errors="replace")[-3000:]
                pytest.fail(f"{Path(command[-1]).name} did not start ({' '.join(command)}):\n{said}", pytrace=False)
            time.sleep(0.05)
        yield server
    finally:
        if server.poll() is None:
            server.send_signal(stop)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
        server.wait()


@contextmanager
def throw_away_folder(user: pwd.struct_passwd | None = None) -> Iterator[Path]:
    """Make a folder that belongs to a user; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="phosphene-test-"))
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class PostgresServer:
    """A running cluster with a superuser `phosphene`."""

    port: int

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://phosphene:{password}@127.0.0.1:{self.port}/{database}"

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="phosphene", password=PASSWORD, dbname="postgres", autocommit=True
        )

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres_cluster() -> Iterator[PostgresServer]:
    """Start a cluster of its own."""
    with postgres_files() as files, files.run():
        yield files.server


@dataclass(frozen=True)
class PostgresFiles:
    """A cluster on disk, which may be run again and again."""

    server: PostgresServer
    folder: Path
    command: tuple[str, ...]

    @contextmanager
    def run(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it. SIGQUIT stops it as a crash does: "immediate"."""
        with running(self.command, ready=self.server.answers, folder=self.folder, stop=signal.SIGINT) as process:
            yield process


@contextmanager
def postgres_files(**more_options: str) -> Iterator[PostgresFiles]:
    """Make a cluster that nobody runs yet."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    initdb = program("initdb", "postgresql", *map(str, folders))
    postgres = str(Path(initdb).parent / "postgres")
    user = unprivileged()
    with throw_away_folder(user) as folder:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user is not None:
            os.chown(secret, user.pw_uid, user.pw_gid)
        make = [*as_user(user), initdb, "-D", f"{folder}/data", "-U", "phosphene", "--auth=scram-sha-256"]
        made = subprocess.run(
            [*make, f"--pwfile={secret}", "--no-sync", "--encoding=UTF8", "--locale=C"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
        if made.returncode != 0:
            pytest.fail(f"initdb failed: {made.stderr}", pytrace=False)
        server = PostgresServer(free_port())
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder), "fsync": "off"}
        options |= {"max_connections": "60", "shared_buffers": "32MB", **more_options}
        command = [*as_user(user), postgres, "-D", f"{folder}/data", "-p", str(server.port)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        yield PostgresFiles(server, folder, tuple(command))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with postgres_cluster() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Give an empty database for one test."""
    name = f"test_{uuid4().hex}"
    with postgres_server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield postgres_server.url(name)
    with postgres_server.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def redis_says(port: int, command: bytes) -> bytes:
    """Give the answer to a command, empty where there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(command + b"\r\n")
            return line.recv(1000)
    except OSError:
        return b""


@contextmanager
def redis_at(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Redis that keeps nothing on disk."""
    command = [*as_user(None), program("redis-server", "redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    with throw_away_folder() as folder:
        command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        with running(command, ready=lambda: b"PONG" in redis_says(port, b"PING"), folder=folder) as server:
            yield server


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    port = free_port()
    with redis_at(port):
        yield port


@pytest.fixture
def redis_url(redis_port: int) -> str:
    """Give an empty Redis for one test."""
    assert b"OK" in redis_says(redis_port, b"FLUSHALL")
    return f"redis://127.0.0.1:{redis_port}/0"


@dataclass(frozen=True)
class RabbitServer:
    """A RabbitMQ with a folder of its own: what is durable outlives a restart."""

    port: int
    folder: Path
    epmd_port: int
    between_nodes_port: int

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=5) as connection:
                connection.ensure_connection(max_retries=1)
        except (KombuError, OSError):
            return False
        return True

    def forget(self, queues: Sequence[str]) -> None:
        """Delete queues with all that is in them."""
        with Connection(self.url) as connection:
            for name in queues:
                Queue(name, channel=connection.default_channel).delete()

    @contextmanager
    def run(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it."""
        script = program("rabbitmq-server", "rabbitmq-server", "/usr/lib/rabbitmq/bin")
        config = self.folder / "rabbit.config"
        # In Erlang's own words: translating the other form takes ten seconds of a busy machine.
        listening = f'{{tcp_listeners, [{{"127.0.0.1", {self.port}}}]}}'
        config.write_text(f"[{{rabbit, [{listening}, {{disk_free_limit, 50000000}}]}}].\n")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),  # its cookie
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self.between_nodes_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false +S 1:1 +sbwt none",
        }
        names = self.folder / "epmd"
        names.mkdir(exist_ok=True)
        with (
            running(
                [*as_user(None), program("epmd", "erlang-base")], ready=lambda: True, folder=names, env=environment
            ),
            running(
                [*as_user(None), script],
                ready=self.answers,
                folder=self.folder,
                env=environment,
                start_s=RABBIT_START_S,
            ) as server,
        ):
            yield server


@contextmanager
def rabbitmq_files() -> Iterator[RabbitServer]:
    """Choose ports and a folder; nothing runs yet."""
    with throw_away_folder() as folder:
        yield RabbitServer(free_port(), folder, free_port(), free_port())


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitServer]:
    with rabbitmq_files() as server, server.run():
        yield server


@dataclass(frozen=True)
class S3Server:
    """A server that speaks S3 (moto), with the credentials that it wants in the environment."""

    endpoint: str

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(self.endpoint + path, data=body, method=method, headers=headers)  # noqa: S310  http to ourselves
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return bytes(answer.read())

    def answers(self) -> bool:
        try:
            self.request("GET", "/moto-api/data.json")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}")
    command = [*as_user(None), sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with throw_away_folder() as folder, running(command, ready=server.answers, folder=folder):
        yield server


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give an empty bucket, and the environment in which s3://… finds it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid4().hex}"
    s3_server.request("PUT", f"/{bucket}")
    return f"s3://{bucket}/pictures"
