"""`phosphene generate` and `search --generate` as a user types them, with a tiny unCLIP of random weights: plumbing."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from phosphene.cli.imagining import Wanted, weights_of
from phosphene.errors import InvalidInput
from tests.search_api.served import ingested_folder, sample_pictures, tiny_generator

NONSENSE = "zzxq 0x7f 9981"
LONG = ("--steps", "1000", "--images", "64")

NOTHING = Wanted(
    text=None,
    variation_of=None,
    blend=(),
    weights=(),
    edit=None,
    theta=0.35,
    images=1,
    seed=None,
    size=None,
    negative=None,
    steps=None,
    guidance=None,
    format=None,
    withhold_prompt=False,
    output=None,
)


@dataclass(frozen=True)
class Shell:
    """Runs `phosphene` on a data folder of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
        own = {"PHOSPHENE_DATA": str(self.folder / "data"), "PHOSPHENE_GENERATOR": str(tiny_generator())}
        return {**inherited, **own, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "phosphene", *arguments]
        environment = {**self.environment, **variables}
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "phosphene", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("shell")
    shutil.copytree(ingested_folder(), folder / "data")
    (folder / "own.webp").write_bytes(next(iter(sample_pictures().values()))[0])
    return Shell(folder)


@pytest.fixture
def server(shell: Shell) -> Iterator[str]:
    process = shell.start("serve", "--port", "0")
    assert process.stdout is not None
    announced = re.search(r"http://\S+", process.stdout.readline())
    assert announced, process.communicate(timeout=10)[1]
    yield announced[0]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_words_become_a_file(shell: Shell) -> None:
    done = shell.run("generate", "a red bus in the snow", "--seed", "7", "-o", "bus.png")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"bus\.png  seed 7  generation [0-9a-f-]{36}\n", done.stdout)
    first = (shell.folder / "bus.png").read_bytes()
    with Image.open(io.BytesIO(first)) as picture:
        assert picture.format == "PNG"
    assert b"trainedAlgorithmicMedia" in first

    (shell.folder / "bus.png").write_bytes(b"something else")
    again = shell.run("generate", "a red bus in the snow", "--seed", "7", "-o", "bus.png", "--json")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert (told["status"], told["seed"], told["files"]) == ("finished", 7, ["bus.png"])
    assert (shell.folder / "bus.png").read_bytes() == first, "the file named is written over"


def test_files_are_named_after_the_generation(shell: Shell) -> None:
    (shell.folder / "drawn").mkdir()
    done = shell.run("generate", "--variation-of", "own.webp", "--images", "2", "--format", "webp", "-o", "drawn")
    assert done.returncode == 0, done.stderr
    ids = {line.split()[-1] for line in done.stdout.splitlines()}
    (id_,) = ids
    files = sorted(path.name for path in (shell.folder / "drawn").iterdir())
    assert files == [f"phosphene-{id_[:8]}-0.webp", f"phosphene-{id_[:8]}-1.webp"]
    with Image.open(shell.folder / "drawn" / files[0]) as picture:
        assert picture.format == "WEBP"
    here = shell.run("generate", "a bus", "--json")
    told = json.loads(here.stdout)
    assert told["files"] == [f"phosphene-{told['id'][:8]}.png"]
    assert (shell.folder / told["files"][0]).is_file()


def test_blends_and_edits(shell: Shell) -> None:
    found = json.loads(shell.run("search", "a bird", "--limit", "2", "--json").stdout)["hits"]
    one, two = (hit["asset_id"] for hit in found)
    blended = shell.run(
        "generate", "snow", "--blend", one, "--blend", "own.webp", "--weights", "1,2,1", "-o", "blend.webp", "--json"
    )
    assert blended.returncode == 0, blended.stderr
    assert json.loads(blended.stdout)["parents"] == [{"asset_id": one, "weight": 2.0}]
    with Image.open(shell.folder / "blend.webp") as picture:
        assert picture.format == "WEBP", "as the name says"
    edited = shell.run("generate", "--variation-of", two, "--edit", "a bird in summer", "a bird in winter", "--json")
    assert edited.returncode == 0, edited.stderr
    assert json.loads(edited.stdout)["request"]["edit"]["after"] == "a bird in winter"
    bare = shell.run("generate", "--edit", "a house", "a house in the snow", "--steps", "3", "--size", "32x32")
    assert bare.returncode == 0, bare.stderr


def test_a_search_without_a_match_gives_a_picture(shell: Shell) -> None:
    done = shell.run("search", NONSENSE, "--limit", "2", "--generate", "-o", "imagined.png")
    assert done.returncode == 0, done.stderr
    head, *_, last = done.stdout.splitlines()
    if head.startswith("a match"):
        pytest.fail("the rule of thumb calls nonsense a match")
    assert last.startswith("imagined: imagined.png")
    assert (shell.folder / "imagined.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(shell.run("search", NONSENSE, "--generate", "-o", "imagined.png", "--json").stdout)
    assert told["files"] == ["imagined.png"]
    assert told["generation"]["status"] == "finished"
    plain = json.loads(shell.run("search", NONSENSE, "--json").stdout)
    assert plain["generation"] is None
    deployed = shell.run("search", NONSENSE, "-o", "deployed.png", PHOSPHENE_GENERATE="when_unmatched")
    assert "imagined: deployed.png" in deployed.stdout
    not_now = shell.run("search", NONSENSE, "--no-generate", "--json", PHOSPHENE_GENERATE="when_unmatched")
    assert json.loads(not_now.stdout)["generation"] is None


def test_a_search_with_a_match_draws_nothing(shell: Shell) -> None:
    done = shell.run("search", "--image", "own.webp", "--generate", "-o", "unneeded.png")
    assert done.returncode == 0, done.stderr
    assert "the catalogue has a match, so nothing was drawn" in done.stderr
    assert not (shell.folder / "unneeded.png").exists()


def test_what_is_refused_is_told_below_the_hits(shell: Shell) -> None:
    refused = shell.run("search", NONSENSE, "--limit", "3", "--generate", PHOSPHENE_BLOCKED_CONCEPTS=NONSENSE)
    assert len(refused.stdout.splitlines()) == 5, refused.stdout
    assert refused.returncode == 1
    assert "no picture was drawn: the guard rails" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({}, "say what to draw"),
        ({"text": "a bus", "variation_of": "own.webp"}, "--variation-of stands alone"),
        ({"variation_of": "nowhere.png"}, "nowhere.png: no id of an asset, and no file: No such file"),
        ({"blend": ("5d3c8b1e-7a3f-4f0c-9d55-4b5a0d6f2c11",)}, "--blend mixes two or more"),
        ({"text": "a bus", "weights": (1.0, 2.0)}, "2 numbers for 1 parts"),
        ({"text": "a bus", "output": Path("bus.gif")}, ".png or .webp"),
        ({"text": "a bus", "output": Path("bus.png"), "format": "webp"}, "contradict"),
        ({"text": "a bus", "format": "gif"}, "png or webp"),
        ({"text": "a bus", "size": "large"}, "size"),
        ({"text": "  "}, "text"),
        ({"edit": ("a bus", " ")}, "after"),
    ],
)
def test_what_can_not_be_asked_for(asked: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(line)):
        replace(NOTHING, **asked).request()


def test_weights_and_formats_are_read() -> None:
    assert weights_of(None) == ()
    assert weights_of("2, 1.5") == (2.0, 1.5)
    with pytest.raises(InvalidInput, match="write numbers"):
        weights_of("much")
    asset = "5d3c8b1e-7a3f-4f0c-9d55-4b5a0d6f2c11"
    both = replace(NOTHING, text="snow", blend=(asset,), weights=(2.0, 1.0), output=Path("x.webp")).request()
    assert both.parts is not None
    assert [part.weight for part in both.parts] == [2.0, 1.0]
    assert both.format == "webp"


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["a bus", "-o", "no-such-folder/bus.png"], 2, "no-such-folder for -o"),
        (["a bus", "--size", "33x33"], 1, "33x33"),
        (["--variation-of", "5d3c8b1e-7a3f-4f0c-9d55-4b5a0d6f2c11"], 1, "5d3c8b1e"),
    ],
)
def test_what_can_not_be_drawn_is_one_line(shell: Shell, arguments: list[str], status: int, line: str) -> None:
    ran = shell.run("generate", *arguments)
    assert ran.returncode == status, ran.stderr
    assert line in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1, ran.stderr
    assert ran.stdout == ""


def test_ctrl_c_cancels(shell: Shell) -> None:
    stopped(shell, shell.start("generate", "a long drawing", "--seed", "1", *LONG))


def stopped(shell: Shell, process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    said = process.stderr.readline()  # a line of progress, after some seconds
    assert re.search(r"step \d+ of \d+|waiting for its turn", said), said + process.communicate(timeout=60)[1]
    process.send_signal(signal.SIGINT)
    told = time.monotonic()
    out, errors = process.communicate(timeout=60)
    assert time.monotonic() - told < 30
    assert process.returncode == 130, errors
    assert re.search(r"generation [0-9a-f-]{36} is cancelled", errors), errors
    assert "Traceback" not in errors
    assert out == ""
    assert not list(shell.folder.glob("a long drawing*"))


def accepted(shell: Shell, *where: str, seed: str) -> None:
    """Draw, list, accept and find a picture."""
    done = shell.run("generate", "a tin robot", "--seed", seed, "--format", "webp", "-o", "robot.webp", *where)
    id_ = done.stdout.split()[-1]
    listed = shell.run("generations", *where)
    assert re.match(rf"{id_}  20\d\d-.*  finished   0 of 1 accepted    a tin robot\n", listed.stdout), listed.stderr

    taken = shell.run("accept", id_, "--title", "Robot number " + seed, *where)
    asset, _, title = taken.stdout.strip().partition("  ")
    assert (taken.returncode, title) == (0, "Robot number " + seed), taken.stderr
    assert shell.run("accept", id_, *where).stdout.startswith(asset), "accepting again changes nothing"
    (newest, *_) = json.loads(shell.run("generations", "--json", "--limit", "1", *where).stdout)["generations"]
    assert newest["pictures"][0]["asset_id"] == asset
    found = shell.run("search", "--image", "robot.webp", "--filter", "generated=true", "--limit", "1", "--json", *where)
    (hit,) = json.loads(found.stdout)["hits"]
    assert (hit["asset_id"], hit["generated"]) == (asset, True)
    assert hit["score"] > 0.99


def test_a_picture_is_accepted(shell: Shell) -> None:
    accepted(shell, seed="41")
    unknown = shell.run("accept", "5d3c8b1e-7a3f-4f0c-9d55-4b5a0d6f2c11")
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (1, 1)
    wrong = shell.run("accept", "robot")
    assert (wrong.returncode, wrong.stderr) == (2, "phosphene: 'robot' is not the id of a generation\n")


def test_a_picture_is_accepted_through_a_server(shell: Shell, server: str) -> None:
    accepted(shell, "--server", server, seed="42")


def test_through_a_running_server(shell: Shell, server: str) -> None:
    done = shell.run("generate", "a red bus", "--blend", "own.webp", "--seed", "1", "-o", "served.png", "--json")
    assert done.returncode == 0, done.stderr
    assert (shell.folder / "served.png").read_bytes().startswith(b"\x89PNG")
    named = shell.run("search", NONSENSE, "--limit", "2", "--generate", "-o", "found.png", "--server", server)
    assert named.stdout.splitlines()[-1].startswith("imagined: found.png"), named.stderr
    lost = shell.run("generate", "--variation-of", "5d3c8b1e-7a3f-4f0c-9d55-4b5a0d6f2c11")
    assert (lost.returncode, len(lost.stderr.splitlines())) == (1, 1)
    stopped(shell, shell.start("generate", "a long drawing", "--seed", "2", *LONG))
