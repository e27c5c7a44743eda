"""All settings, from PHOSPHENE_* in the environment or .env. What is unset means embedded."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from phosphene.errors import InvalidSettings
from phosphene.types import GenerateMode

PREFIX = "PHOSPHENE_"
MIN_SECRET = 16  # characters


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _limit(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in ("", "none", "unlimited") else value


def _batch_size(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in ("", "auto") else value


def _compiler(value: object) -> object:
    said = str(value).strip().lower()
    return {"": None, "0": None, "false": None, "none": None, "1": "inductor", "true": "inductor"}.get(said, said)


CommaSeparated = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
BatchSize = Annotated[int | None, BeforeValidator(_batch_size)]
Compiler = Annotated[Literal["inductor", "aot_eager", "eager"] | None, BeforeValidator(_compiler)]
Limit = Annotated[int | None, BeforeValidator(_limit)]


class Settings(BaseSettings):
    """Frozen; made once at the edge by `load_settings` and handed down."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", frozen=True, extra="ignore")

    data: Path = Field(default=Path("phosphene-data"), description="embedded data folder")
    model: str = Field(default="starter", description="open_clip name/tag, a path, hf-hub:…, or starter")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")
    threads: int | None = Field(default=None, ge=1, description="torch threads; unset: torch's own choice")

    database_url: SecretStr | None = Field(
        default=None, description="postgresql+psycopg://…; unset: SQLite in the data folder"
    )
    qdrant_url: str | None = Field(default=None, description="http://host:6333; unset: the engine in this process")
    qdrant_api_key: SecretStr | None = None
    qdrant_grpc_port: int | None = Field(default=None, description="set: points travel over gRPC")
    blob_url: str | None = Field(default=None, description="s3://bucket/prefix or any fsspec URL; unset: a folder")
    broker_url: SecretStr | None = Field(
        default=None, description="amqp://… or redis://…; unset: a thread in this process"
    )

    index_profile: Literal["flat", "graph"] = Field(
        default="flat", description="embedded index: flat up to about 300,000 vectors"
    )
    qdrant_profile: Literal["1m", "100m", "5b"] = Field(
        default="1m", description="how collections on a server are laid out: docs/scaling.md"
    )
    qdrant_replicas: int | None = Field(default=None, ge=1, description="copies of a shard; unset: as the profile has")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    api_keys: CommaSeparated = Field(default=(), description="tenant:secret, comma separated; needed beyond loopback")

    max_pixels: int = Field(default=50_000_000, ge=1)
    max_picture_bytes: int = Field(default=64 * 2**20, ge=1)
    max_body_bytes: int = Field(default=96 * 2**20, ge=1)
    decode_processes: int | None = Field(default=None, ge=1, description="unset: one for each core, at most 8")
    decode_timeout_s: float = Field(default=30.0, gt=0)
    decode_memory_bytes: int = Field(default=2 * 2**30, ge=256 * 2**20, description="address space of one decoder")
    fetch_urls: bool = Field(default=False, description="allow pictures to be fetched from public http(s) addresses")
    max_download_bytes: int = Field(
        default=4 * 2**30, ge=1, description="of all manifests and archives at such addresses that are kept at a time"
    )

    batch_size: BatchSize = Field(
        default=None,
        ge=1,
        le=1024,
        description="pictures at once, and in a task if above 64; auto: found on CUDA, else 64",
    )
    compile: Compiler = Field(
        default=None, description="1: torch.compile for pictures; or its backend: inductor, aot_eager, eager; 0: none"
    )
    max_waiting: int = Field(
        default=50_000, ge=1, description="pictures that wait for workers: more uploads are refused, ingests embed too"
    )
    lease_s: float = Field(default=20.0, ge=1, description="so long waits what a worker held that died")

    vocabulary: Path | None = Field(
        default=None, description="words for pictures: a text file with a line each, or TOML; unset: the bundled ones"
    )
    auto_keywords: bool = Field(default=False, description="give pictures keywords as they are embedded")

    generator: str = Field(default="starter", description="a folder, a cached name of the hub, or starter")
    generator_prior: str | None = Field(default=None, description="the prior, where it is published apart")
    generate: GenerateMode = Field(default=GenerateMode.NEVER, description="when a search that does not say has one")
    generations_per_day: Limit = Field(default=200, ge=0, description="pictures a tenant may have drawn in 24 h")
    generation_queue: int = Field(default=16, ge=1, description="a tenant's generations waiting or under way")
    blocked_concepts: Words = Field(default=(), description="not to be imagined; @FILE names one with a line each")
    blocked_score: float = Field(default=0.4, ge=0, le=1, description="refused from this score on; 1: off")
    moderation: str | None = Field(default=None, description="module:function(prompts) -> why to refuse, or None")

    rerank: str | None = Field(default=None, description="module:function(question, candidates) -> a number for each")
    rerank_timeout_s: float = Field(default=1.0, gt=0, le=60, description="so long a search waits for it")
    font: Path | None = Field(default=None, description="a .ttf or .otf for contact sheets; unset: DejaVu Sans")

    log_format: Literal["plain", "json"] = Field(default="plain", description="json: an object a line")
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(
        default=None, description="unset: warning where plain text is served, info else"
    )
    metrics_key: SecretStr | None = Field(
        default=None, description="what a scraper sends as Bearer; needed beyond loopback"
    )
    metrics_host: str = Field(default="127.0.0.1", description="of a worker's metrics")
    metrics_port: int | None = Field(default=None, ge=0, le=65535, description="of a worker's metrics; unset: none")
    ready_queues: Words = Field(
        default=("ingest", "embed", "embed.online", "maintenance"),
        description="not ready while no worker takes from one of these, or one hangs in a task of it",
    )
    worker_stuck_s: float = Field(
        default=600, gt=0, description="a worker's task that has not got on for so long hangs; as long may a model load"
    )

    @model_validator(mode="after")
    def _no_contradictions(self) -> Self:
        shared = {"broker_url": self.broker_url, "database_url": self.database_url, "qdrant_url": self.qdrant_url}
        if self.broker_url is not None:
            missing = [PREFIX + name.upper() for name, value in shared.items() if value is None]
            if missing:
                msg = (
                    "PHOSPHENE_BROKER_URL sends work to other processes, which can't share embedded stores: "
                    f"set {', '.join(missing)} too"
                )
                raise ValueError(msg)
        if self.qdrant_api_key is not None and self.qdrant_url is None:
            msg = "PHOSPHENE_QDRANT_API_KEY is set but PHOSPHENE_QDRANT_URL is not"
            raise ValueError(msg)
        for key in self.api_keys:
            tenant, colon, secret = key.get_secret_value().partition(":")
            if not (tenant and colon and len(secret) >= MIN_SECRET):
                msg = "PHOSPHENE_API_KEYS holds tenant:secret pairs with secrets of at least 16 characters"
                raise ValueError(msg)
        if self.metrics_key is not None and len(self.metrics_key.get_secret_value()) < MIN_SECRET:
            raise ValueError("PHOSPHENE_METRICS_KEY has at least 16 characters")
        if self.metrics_port is not None and self.metrics_key is None and not is_loopback(self.metrics_host):
            msg = (
                f"PHOSPHENE_METRICS_HOST={self.metrics_host} can be reached from other machines, which needs a key: "
                "set PHOSPHENE_METRICS_KEY (16 characters or more)"
            )
            raise ValueError(msg)
        return self

    @property
    def embedded(self) -> bool:
        """Whether any store lives in the data folder, which then belongs to one process."""
        return self.database_url is None or self.qdrant_url is None

    def secrets(self) -> Iterator[str]:
        """Give every secret, those within URLs too, for those who must not write them down."""
        yield from (key.get_secret_value().partition(":")[2] for key in self.api_keys)
        yield from (key.get_secret_value() for key in (self.metrics_key, self.qdrant_api_key) if key is not None)
        for url in (self.database_url, self.broker_url):
            password = urlsplit(url.get_secret_value()).password if url is not None else None
            if password:
                yield from {password, unquote(password)}


def is_loopback(host: str) -> bool:
    """Tell whether a host, as one writes it in a URL, is this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**overrides: object) -> Settings:
    """Read the environment and .env. Raises InvalidSettings with one line for each wrong value."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = PREFIX + str(problem["loc"][0]).upper() + ": " if problem["loc"] else ""
            lines.append(name + problem["msg"].removeprefix("Value error, "))
        raise InvalidSettings("; ".join(lines)) from error


def unknown_names() -> list[str]:
    """Name the PHOSPHENE_* variables that no setting reads, each with what was perhaps meant."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    hints = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hints.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return hints
