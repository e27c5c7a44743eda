"""Runs what the pages on boards and on vectors show, on the demo catalogue, and compares the pictures that come out."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.docs.examples import SHOWN_ADDRESS, Shell, examples

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


@pytest.fixture(scope="module")
def curated(served: Shell) -> Shell:
    """A shell that knows some pictures by name."""
    return replace(served, environment={**served.environment, **PICTURES})


def test_boards_print_what_their_page_shows(curated: Shell) -> None:
    shown = examples("docs/collections.md")
    assert len(shown) == 9
    for command, expected in ((example.command, example.printed) for example in shown):
        printed = curated.run(command)
        if command.startswith("curl"):
            made, told = json.loads(printed), json.loads(expected.replace(", …}", "}"))
            assert {**told, "id": made["id"]} == {name: made[name] for name in told}
            continue
        assert FIGURE.sub("N", BOARD.sub("", printed)) == FIGURE.sub("N", BOARD.sub("", expected)), command
        np.testing.assert_allclose(figures(printed), figures(expected), atol=0.02, rtol=0.1)

    rows = list(csv.DictReader((curated.folder / "board.csv").read_text("utf-8-sig").splitlines()))
    order = ["CELLO", "HARP", "CLASSICAL", "GUITAR", "ACOUSTIC", "SAILBOATS"]
    assert [row["asset_id"] for row in rows] == [PICTURES[name] for name in order]
    assert (curated.folder / "board.pdf").read_bytes().startswith(b"%PDF")
    curated.run('phosphene collections export "Music room" -o board.png')
    with Image.open(curated.folder / "board.png") as sheet:
        assert sheet.size == (1240, 1754)
    link = json.loads(curated.run('phosphene collections share "Music room" --days 14 --no-notes --json'))
    page = curated.run(f"curl -s {SHOWN_ADDRESS}{link['path']}")
    assert re.findall(r"<p>([^<]*)</p>", page)[1:] == [row["title"] for row in rows]
    assert "the best one" not in page


def figures(printed: str) -> list[float]:
    return [float(number) for number in FIGURE.findall(printed)]


def test_vectors_and_similarities_are_what_their_page_shows(curated: Shell) -> None:
    for command, expected in ((example.command, example.printed) for example in examples("docs/embeddings.md")):
        printed = curated.run(command)
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
    rows = np.load(curated.folder / "two.npy")
    beside: dict[str, Any] = json.loads((curated.folder / "two.npy.json").read_text())
    assert rows.shape == (2, beside["dimension"])
    coffee = json.loads(curated.run(f"phosphene search --asset {beside['inputs'][1].removeprefix('asset:')} --json"))
    found = json.loads(
        curated.run(
            f"curl -s {SHOWN_ADDRESS}/v1/search -H 'Content-Type: application/json' "
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
