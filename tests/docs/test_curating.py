"""Runs what the pages on boards and on vectors show, on the demo catalogue, and compares the pictures that come out."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
CATALOGUE = REPOSITORY / "phosphene" / "starter" / "demo" / "catalogue.tar"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
BOARD = re.compile(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.MULTILINE)  # an id that is another each time
FIGURE = re.compile(r" *-?\d+\.\d+")
PICTURES = {
    "HARP": "03bde4ad-173a-5721-a3c2-0a9682328681",
    "CLASSICAL": "d6b1a1a7-a5be-57cb-be98-776c4b6df623",
    "GUITAR": "689ac17f-a4ec-59c4-b9a1-67a398bf64ad",
    "ACOUSTIC": "4d7d3146-e9c5-5d7c-b78b-59cd3b3a96bc",
    "CELLO": "a6074f4f-7ad5-5ffc-8bb2-b2b077793793",
    "SAILBOATS": "8727a319-4446-5a5f-9955-6e296cdcefe8",
}


@dataclass(frozen=True)
class Served:
    """A running server over the demo catalogue, and a shell that speaks to it."""

    url: str
    environment: dict[str, str]
    folder: Path

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command.replace("http://127.0.0.1:8000", self.url)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def examples(page: str) -> dict[str, str]:
    """What a page shows: printed by command, in order."""
    shown = {}
    for block in BLOCK.findall((REPOSITORY / "docs" / page).read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            shown[command] = printed.strip()
    return shown


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("curating")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
    environment = {
        **inherited,
        **PICTURES,
        "PHOSPHENE_DATA": str(folder / "data"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
    }
    subprocess.run(["phosphene", "ingest", str(CATALOGUE)], env=environment, cwd=folder, check=True, timeout=600)
    with subprocess.Popen(
        ["phosphene", "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        announced = re.search(r"http://\S+", process.stdout.readline())
        assert announced
        yield Served(announced[0], environment, folder)
        process.send_signal(signal.SIGTERM)


def test_boards_print_what_their_page_shows(served: Served) -> None:
    shown = examples("collections.md")
    assert len(shown) == 9
    for command, expected in shown.items():
        printed = served.run(command)
        if command.startswith("curl"):
            made, told = json.loads(printed), json.loads(expected.replace(", …}", "}"))
            assert {**told, "id": made["id"]} == {name: made[name] for name in told}
            continue
        assert FIGURE.sub("N", BOARD.sub("", printed)) == FIGURE.sub("N", BOARD.sub("", expected)), command
        np.testing.assert_allclose(figures(printed), figures(expected), atol=0.02, rtol=0.1)

    rows = list(csv.DictReader((served.folder / "board.csv").read_text("utf-8-sig").splitlines()))
    order = ["CELLO", "HARP", "CLASSICAL", "GUITAR", "ACOUSTIC", "SAILBOATS"]
    assert [row["asset_id"] for row in rows] == [PICTURES[name] for name in order]
    assert (served.folder / "board.pdf").read_bytes().startswith(b"%PDF")
    served.run('phosphene collections export "Music room" -o board.png')
    with Image.open(served.folder / "board.png") as sheet:
        assert sheet.size == (1240, 1754)
    link = json.loads(served.run('phosphene collections share "Music room" --days 14 --no-notes --json'))
    page = served.run(f"curl -s http://127.0.0.1:8000{link['path']}")
    assert re.findall(r"<p>([^<]*)</p>", page)[1:] == [row["title"] for row in rows]
    assert "the best one" not in page


def figures(printed: str) -> list[float]:
    return [float(number) for number in FIGURE.findall(printed)]


def test_vectors_and_similarities_are_what_their_page_shows(served: Served) -> None:
    for command, expected in examples("embeddings.md").items():
        printed = served.run(command)
        if command.startswith("curl"):
            made, told = json.loads(printed), json.loads(expected)
            assert made["shape"] == told["shape"]
            np.testing.assert_allclose(made["cosines"], told["cosines"], atol=2e-3)
            np.testing.assert_allclose(made["clip_scores"], told["clip_scores"], atol=5e-3)
            assert made["space"] == told["space"]
        elif command.startswith("phosphene similarity"):
            assert printed.splitlines()[0] == expected.splitlines()[0]
            assert pairs_of(printed) == pytest.approx(pairs_of(expected), abs=0.006)
        else:
            assert printed == expected
    rows = np.load(served.folder / "two.npy")
    beside: dict[str, Any] = json.loads((served.folder / "two.npy.json").read_text())
    assert rows.shape == (2, beside["dimension"])
    coffee = json.loads(served.run(f"phosphene search --asset {beside['inputs'][1].removeprefix('asset:')} --json"))
    found = json.loads(
        served.run(
            "curl -s http://127.0.0.1:8000/v1/search -H 'Content-Type: application/json' "
            f"-d '{json.dumps({'vector': rows[1].tolist(), 'limit': 11})}'"
        )
    )["hits"]
    assert found[0]["title"] == "Coffee"
    assert [hit["asset_id"] for hit in found[1:]] == [hit["asset_id"] for hit in coffee["hits"]]


def pairs_of(table: str) -> dict[tuple[str, int], float]:
    """Figures of a printed comparison, by what is compared."""
    told: dict[tuple[str, int], float] = {}
    for line in table.splitlines()[1:]:
        cosine, score, names = line.split(maxsplit=2)
        told |= {(names, 0): float(cosine), (names, 1): float(score)}
    return told
