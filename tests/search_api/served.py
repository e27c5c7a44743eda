"""A real server over a real engine: starter model, embedded index, pictures of the demo catalogue."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image
from pydantic import SecretStr

from indexer.jobs import handlers
from indexer.pipeline import ingest
from indexer.progress import SilentProgress
from indexer.sources import SourceOptions
from phosphene.assemble import Engine, open_engine, open_jobs
from phosphene.encoders import load_encoder
from phosphene.settings import Settings
from phosphene.types import DEFAULT_TENANT
from search_api.app import create_app
from search_api.serving import Server
from tests.unclip import starter_models

CATALOGUE = Path(__file__).parents[2] / "phosphene" / "starter" / "demo" / "catalogue.tar"
PICTURES = 150
KEYS = ("museum:museum-secret-0123456789", "agency:agency-secret-0123456789")


@dataclass
class Served:
    """A running server, its engine, and a client that speaks to it."""

    url: str
    engine: Engine
    client: httpx2.Client
    token: str | None
    server: Server
    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # by file name without suffix

    def search(self, **body: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
        response = self.client.post("/v1/search", json=body)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    @property
    def local(self) -> dict[str, str]:
        return {"X-Phosphene-Local-Token": self.token or ""}


def sample_pictures() -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Some pictures of the demo catalogue with what it says of them, the same ones each time."""
    with tarfile.open(CATALOGUE) as archive:
        members = {member.name: member for member in archive.getmembers()}
        names = sorted(name.removesuffix(".json") for name in members if name.endswith(".json"))
        step = max(1, len(names) // PICTURES)
        chosen = {}
        for name in names[::step][:PICTURES]:
            picture = next(members[name + suffix] for suffix in (".webp", ".png", ".jpg") if name + suffix in members)
            said = archive.extractfile(members[f"{name}.json"])
            data = archive.extractfile(picture)
            assert said is not None
            assert data is not None
            chosen[name] = (data.read(), json.load(said))
    return chosen


@cache
def ingested_folder() -> Path:
    """A data folder with the sample in it, made once a run; copy it before use."""
    home = Path(tempfile.mkdtemp(prefix="phosphene-tests-"))
    source = home / "sample.tar"
    with tarfile.open(source, "w") as archive:
        for name, (data, said) in sample_pictures().items():
            for suffix, content in ((".webp", data), (".json", json.dumps(said).encode())):
                member = tarfile.TarInfo(name + suffix)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    with open_engine(settings_for(home / "data"), command="tests") as engine:
        done = ingest(
            [str(source)],
            engine=engine,
            tenant=DEFAULT_TENANT,
            options=SourceOptions(),
            jobs=None,
            progress=SilentProgress(),
        )
    assert done.counts.added == PICTURES
    return home / "data"


@cache
def tiny_generator() -> Path:
    """A folder with an unCLIP of random weights in the starter's space: plumbing, not meaning."""
    home = Path(tempfile.mkdtemp(prefix="phosphene-tests-"))
    return starter_models.save(home / "unclip", space=load_encoder("starter", device="cpu").space.id)


def forget_folders() -> None:
    """Remove what was made once a run."""
    if tiny_generator.cache_info().currsize:
        shutil.rmtree(tiny_generator().parent)
        tiny_generator.cache_clear()
    if ingested_folder.cache_info().currsize:
        shutil.rmtree(ingested_folder().parent)
        ingested_folder.cache_clear()


def settings_for(data: Path, **more: Any) -> Settings:  # noqa: ANN401  any setting
    return Settings(_env_file=None, data=data, port=0, threads=1, decode_processes=1, **more)


@contextlib.contextmanager
def serving(data: Path, **settings: Any) -> Iterator[Served]:  # noqa: ANN401  any setting
    """Serve a data folder on a free port, as `phosphene serve` does."""
    keys = tuple(SecretStr(key) for key in settings.pop("api_keys", ()))
    chosen = settings_for(data, api_keys=keys, **settings)
    with contextlib.ExitStack() as closing:
        engine = closing.enter_context(open_engine(chosen, command="tests"))
        engine.warm()
        jobs = open_jobs(chosen, handlers(engine))
        closing.callback(jobs.close)
        token = engine.held.token if engine.held else None
        ready = threading.Event()
        server = Server(create_app(engine, jobs, local_token=token), settings=chosen, when_ready=lambda _: ready.set())
        thread = threading.Thread(target=server.run)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive()

        closing.callback(stop)
        assert ready.wait(timeout=60)
        client = closing.enter_context(httpx2.Client(base_url=server.url, timeout=60))
        records = {name: said for name, (_, said) in sample_pictures().items()}
        yield Served(server.url, engine, client, token, server, records)


def png(seed: int, size: tuple[int, int] = (96, 64)) -> bytes:
    """A picture that nobody has: coloured noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    return out.getvalue()


def variation(data: bytes, seed: int) -> bytes:
    """Nearly the same picture with other bytes: one pixel differs."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture.putpixel((seed % picture.width, seed // picture.width % picture.height), (seed % 256, 7, 9))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
