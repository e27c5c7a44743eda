"""`phosphene evaluate` as a user types it, on the demo catalogue and on benchmarks made of its pictures."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from phosphene.cli.app import app
from phosphene.encoders import PromptTemplates, load_encoder
from phosphene.errors import InvalidInput
from phosphene.images import fit
from tests.demo import DEMO

CLASSES = ("animals", "food", "transportation")
EACH = 12


@dataclass(frozen=True)
class Shell:
    """Runs `phosphene` in a folder, on the data in it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PHOSPHENE_")}
        return {**inherited, "PHOSPHENE_DATA": str(self.folder / "data"), "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "phosphene", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=500
        )


@pytest.fixture(scope="module")
def shell(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("shell")
    shutil.copytree(demo_folder, folder / "data")
    return Shell(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of three categories of the demo, and a CSV of the titles."""
    home = tmp_path_factory.mktemp("pictures")
    chosen = dict.fromkeys(CLASSES, 0)
    rows = ["image,caption"]
    with tarfile.open(DEMO / "catalogue.tar") as archive:
        members = {member.name: member for member in archive}
        for name in sorted(name for name in members if name.endswith(".json")):
            said = json.load(archive.extractfile(members[name]) or io.BytesIO())
            category = said.get("category")
            if category not in chosen or chosen[category] == EACH or "," in said["title"]:
                continue
            chosen[category] += 1
            picture = name.removesuffix(".json") + ".webp"
            data = archive.extractfile(members[picture])
            assert data is not None
            (home / "classes" / category).mkdir(parents=True, exist_ok=True)
            (home / "flat").mkdir(exist_ok=True)
            content = data.read()
            (home / "classes" / category / picture).write_bytes(content)
            (home / "flat" / picture).write_bytes(content)
            rows += [f"{picture},{said['title']}", f"{picture},{category}: {said['title']}"]
    assert list(chosen.values()) == [EACH] * 3
    (home / "captions.csv").write_text("\n".join(rows) + "\n")
    return home


def test_golden_queries_of_the_demo_in_words_json_and_a_picture(shell: Shell) -> None:
    done = shell.run("evaluate", "--index-recall", "--questions", "50", "--no-match", "--plot", "figures.png")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("asking the golden queries of the demo catalogue")
    told = done.stdout.splitlines()
    assert told[0] == "golden queries: 71"
    assert told[1].split()[:2] == ["recall@1", "0.662"]
    assert told[3].split()[:2] == ["recall@10", "0.901"]
    assert any(line.startswith("  nothing right among ten: dog, wild cat with stripes, ") for line in told)
    assert "  not calibrated: run `phosphene calibrate`" in told
    assert "index recall@10: 50 of 1,059 pictures asked" in told
    with Image.open(shell.folder / "figures.png") as picture:
        width, height = picture.size
        assert picture.format == "PNG"
        assert width > 2.5 * height  # three diagrams
        assert (13, 107, 110) in {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}


def test_a_figure_below_what_is_asked_fails_also_through_a_running_server(shell: Shell) -> None:
    golden = shell.folder / "golden.jsonl"
    golden.write_text(
        '{"query": "elephant", "relevant": {"elephant-01.webp": 2, "contour-elephant.webp": 1}}\n'
        '{"query": "compass", "relevant": ["bussola-mauro-olivo-01.webp", "no-such-picture.webp"]}\n'
    )
    command = [sys.executable, "-m", "phosphene", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=shell.folder, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        assert "Phosphene is at" in server.stdout.readline()
        remote = shell.run("evaluate", "golden.jsonl", "--json", "--fail-under", "recall@10=1,coverage@10=0.9")
        server.send_signal(signal.SIGTERM)
    local = shell.run("evaluate", "golden.jsonl", "--json")
    assert remote.returncode == 1, remote.stderr
    assert local.returncode == 0, local.stderr
    assert json.loads(remote.stdout) == json.loads(local.stdout)
    report = json.loads(local.stdout)
    assert report["golden"]["missing"] == ["no-such-picture.webp"]
    assert report["metrics"]["recall@10"]["value"] == 1
    assert report["golden"]["queries"][1]["coverage"] == 0.5  # of its two pictures one is not there
    assert report["metrics"]["coverage@10"]["value"] == 0.5
    assert remote.stderr.splitlines() == ["phosphene: coverage@10 is 0.5000, at least 0.9 is asked for"]


def test_index_recall_alone_asks_no_golden_queries(shell: Shell) -> None:
    done = shell.run(
        "evaluate", "--index-recall", "-k", "5", "--questions", "40", "--json", "--fail-under", "index_recall@5=1"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert "golden" not in report
    assert [one["condition"] for one in report["index_recall"]["conditions"]] == ["no filter", "50 %", "10 %", "1 %"]
    assert report["index_recall"]["questions"] == 40
    assert list(report["metrics"]) == ["index_recall@5"]


def test_zero_shot_and_captions_are_what_the_model_gives(shell: Shell, pictures: Path) -> None:
    (pictures / "classes" / "food" / "broken.jpg").write_bytes(b"no picture")
    done = shell.run(
        "evaluate", "--zero-shot", str(pictures / "classes"), "--json",
        "--captions", str(pictures / "captions.csv"), "--images", str(pictures / "flat"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "broken.jpg" in done.stderr
    report = json.loads(done.stdout)

    encoder = load_encoder("starter", device="cpu", threads=1)
    files = sorted((pictures / "classes").rglob("*.webp"))
    pixels = [fit(Image.open(file).convert("RGB"), encoder.space.pixels) for file in files]
    rows = encoder.encode_pixels(np.stack(pixels)).unit().rows
    names = PromptTemplates().embed(CLASSES, encoder=encoder).rows
    guessed = (rows @ names.T).argmax(axis=1)
    truth = np.array([CLASSES.index(file.parent.name) for file in files])
    assert report["zero_shot"]["pictures"] == len(files) == 3 * EACH
    assert report["zero_shot"]["skipped"] == 1
    assert report["zero_shot"]["accuracy_at_1"]["value"] == pytest.approx((guessed == truth).mean())
    assert report["metrics"]["accuracy@5"]["value"] == 1  # there are but three classes
    assert report["metrics"]["accuracy@1"]["value"] > 0.6  # a third by chance

    lines = [line.split(",", 1) for line in (pictures / "captions.csv").read_text().splitlines()[1:]]
    at = {file.name: place for place, file in enumerate(files)}
    scores = encoder.encode_texts([caption for _, caption in lines]).unit().rows @ rows.T
    for depth in (1, 5, 10):
        found = [at[name] in np.argsort(-row)[:depth] for (name, _), row in zip(lines, scores, strict=True)]
        assert report["captions"]["text_to_image"][f"recall@{depth}"]["value"] == pytest.approx(np.mean(found))
    assert report["captions"]["captions"] == 2 * report["captions"]["pictures"] == 6 * EACH


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fail-under", "recal@10=0.5"], "no figure is called 'recal@10'"),
        (["--fail-under", "recall@10=50"], "write recall@10=0.5, a number between 0 and 1"),
        (["--fail-under", "recall@10"], "write recall@10=0.5"),
        (["--captions", "captions.csv"], "--captions FILE and --images FOLDER go together"),
        (["--zero-shot", "x", "--index-recall"], "evaluate the catalogue in another run"),
        (["--zero-shot", "x", "--server", "http://127.0.0.1:1"], "leave --server out"),
        (["--zero-shot", "x"], "x is no folder"),
        (["--labels", "x"], "--labels and --templates are for --zero-shot FOLDER"),
        (["--split", "test"], "--split and --captions-each are for --captions FILE"),
        (["--plot", "no-such-folder/x.png"], "no-such-folder for --plot"),
        (["nothing.jsonl"], "golden queries nothing.jsonl: No such file or directory"),
    ],
)
def test_what_can_not_be_measured_is_said_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    assert isinstance(done.exception, InvalidInput)  # which the command turns into one line and exit status 2
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)


def test_an_empty_catalogue_is_told(tmp_path: Path) -> None:
    empty = Shell(tmp_path).run("evaluate")
    assert empty.returncode == 2
    assert "none of the" in empty.stderr.splitlines()[-1]
    assert "are they of another one?" in empty.stderr.splitlines()[-1]
    empty = Shell(tmp_path).run("evaluate", "--index-recall")
    assert empty.returncode == 2
    assert "ingest some first" in empty.stderr
