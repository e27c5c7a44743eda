"""docker-compose.yml and the Dockerfile can't be run here; what they name must exist in the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.main import get_command

from phosphene.cli.app import app
from phosphene.jobs import QUEUE_OF
from phosphene.settings import PREFIX, Settings
from workers.celery_app import STOP_S

HOUSE = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = YAML(typ="safe").load((HOUSE / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "phosphene"}
DOCKERFILE = (HOUSE / "deploy" / "Dockerfile").read_text(encoding="utf-8")
# What is filled in from the environment, as `docker compose` would.
PASSWORD = "a-good-password_1"  # noqa: S105  made up here
KEYS = "acme:0123456789abcdef"


def filled(text: str) -> str:
    """Fill in ${NAME:?…} and ${NAME:-default}."""
    text = re.sub(r"\$\{PHOSPHENE_API_KEYS:\?[^}]*\}", KEYS, text)
    text = re.sub(r"\$\{[A-Z_]+:\?[^}]*\}", PASSWORD, text)
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def test_it_holds_to_the_schema_of_compose_files() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", HOUSE / "docker-compose.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_services_are_those_that_a_fleet_needs() -> None:
    assert {"api", "worker", "online", "beat", "qdrant", "postgres", "rabbitmq", "minio"} <= set(SERVICES)
    assert SERVICES["gpu-worker"]["profiles"] == ["gpu"]
    (device,) = SERVICES["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in {"migrate", "bucket"}])
def test_what_stays_up_says_how_it_is(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_memory_is_limited_and_volumes_are_declared(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+G", service["deploy"]["resources"]["limits"]["memory"])
    named = {volume.partition(":")[0] for volume in service.get("volumes", ())}
    assert named <= set(COMPOSE["volumes"])
    assert set(service.get("depends_on", ())) <= set(SERVICES)


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    given = {key for key in OURS[name]["environment"] if key.startswith(PREFIX)}
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert given
    assert given <= known


@pytest.mark.parametrize("name", OURS)
def test_the_settings_contradict_nothing(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for key, value in OURS[name]["environment"].items():
        monkeypatch.setenv(key, filled(str(value)))
    settings = Settings()
    assert not settings.embedded
    assert settings.broker_url is not None
    assert PASSWORD in settings.broker_url.get_secret_value()
    assert bool(settings.api_keys) is (name == "api")


@pytest.mark.parametrize("name", [name for name, service in OURS.items() if service["command"][0] == "phosphene"])
def test_every_command_can_be_parsed(name: str) -> None:
    program, command, *arguments = OURS[name]["command"]
    parser = get_command(app)
    with parser.make_context(program, [command, *arguments], resilient_parsing=False) as context:
        found = parser.get_command(context, command)  # type: ignore[attr-defined]  # a group
        assert found is not None
        with found.make_context(command, list(arguments), parent=context) as parsed:
            queues = parsed.params.get("queues")
    if command == "worker":
        assert set(str(queues).split(",")) <= set(QUEUE_OF.values())
        # Else it is killed in the middle of what it would have given back.
        assert int(OURS[name]["stop_grace_period"].removesuffix("s")) > 2 * STOP_S


def test_every_queue_has_a_worker() -> None:
    taken = ",".join(OURS[name]["command"][3] for name in ("worker", "beat"))
    assert sorted(taken.split(",")) == sorted(set(QUEUE_OF.values()))
    assert OURS["online"]["command"][3] == "embed.online", "uploads have a worker that nothing else holds up"


def test_ports_are_those_that_are_listened_on() -> None:
    command = OURS["api"]["command"]
    port = command[command.index("--port") + 1]
    assert [mapping.rpartition(":")[2] for mapping in OURS["api"]["ports"]] == [port]
    assert all(mapping.startswith("127.0.0.1:") for mapping in OURS["api"]["ports"])
    assert f"EXPOSE {port}" in DOCKERFILE
    assert f":{port}/readyz" in " ".join(OURS["api"]["healthcheck"]["test"])


@pytest.mark.parametrize("name", OURS)
def test_programs_and_modules_of_commands_are_there(name: str) -> None:
    commands = [OURS[name]["command"], OURS[name].get("healthcheck", {}).get("test", ["CMD", "python"])[1:]]
    for command in commands:
        if command[0] == "python" and command[1:2] == ["-m"]:
            assert (HOUSE / command[2].replace(".", "/")).with_suffix(".py").is_file()
        elif command[0] == "python" and command[1:2] == ["-c"]:
            compile(command[2], name, "exec")
        else:
            assert Path(sys.executable).with_name(command[0]).is_file()


def test_the_image_holds_every_package_and_does_not_run_as_root() -> None:
    copied = {word for line in DOCKERFILE.splitlines() if line.startswith("COPY") for word in shlex.split(line)[1:-1]}
    for needed in ("phosphene", "indexer", "search_api", "workers", "migrations", "pyproject.toml", "alembic.ini"):
        assert needed in copied
        assert (HOUSE / needed).exists()
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, flags=re.MULTILINE) == ["phosphene"]
    assert len(re.findall("^FROM", DOCKERFILE, flags=re.MULTILINE)) == 2
    kept = {line[1:] for line in (HOUSE / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    assert {name for name in copied if not name.startswith(("/", "--"))} <= kept
