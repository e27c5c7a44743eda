"""`phosphene collections` as a user types it, in this process; docs/collections.md goes through a server."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.test_comparing import Shell
from tests.search_api.served import ingested_folder


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder: Path = tmp_path_factory.mktemp("shell")
    shutil.copytree(ingested_folder(), folder / "data")
    return Shell(folder)


def test_a_board_from_its_first_picture_to_its_files(shell: Shell) -> None:
    found = json.loads(shell.run("search", "a bird", "--limit", "8", "--json").stdout)["hits"]
    ids = [hit["asset_id"] for hit in found]
    made = shell.run("collections", "create", "Birds \u732b", *ids[:5], "--json")
    assert made.returncode == 0, made.stderr
    board = json.loads(made.stdout)
    assert (board["name"], board["count"]) == ("Birds \u732b", 5)
    added = shell.run("collections", "add", "Birds \u732b", ids[5], ids[0], "--after", ids[1], "--note", "=1+1")
    assert added.stdout.strip() == "added 1; 6 on Birds \u732b"
    removed = shell.run("collections", "remove", board["id"], ids[2], "--json")
    assert json.loads(removed.stdout)["changed"] == 1
    shown = json.loads(shell.run("collections", "show", board["id"], "--json").stdout)
    assert [item["asset_id"] for item in shown["items"]] == [ids[0], ids[1], ids[5], ids[3], ids[4]]
    assert [item["note"] for item in shown["items"]] == ["", "", "=1+1", "", ""]

    more = json.loads(shell.run("collections", "more", board["id"], "--limit", "3", "--json").stdout)["hits"]
    assert len(more) == 3
    assert not {hit["asset_id"] for hit in more} & {item["asset_id"] for item in shown["items"]}
    for name in ("board.csv", "board.json", "board.png"):
        written = shell.run("collections", "export", board["id"], "-o", name)
        assert written.returncode == 0, written.stderr
        assert written.stdout.strip() == name
    assert "PHOSPHENE_FONT" not in written.stderr, "its titles are in Latin letters; only its name is not"
    rows = list(csv.DictReader((shell.folder / "board.csv").read_text("utf-8-sig").splitlines()))
    assert rows[2]["note"] == "'=1+1"
    assert json.loads((shell.folder / "board.json").read_text())["items"][2]["note"] == "=1+1"
    with Image.open(shell.folder / "board.png") as sheet:
        assert sheet.format == "PNG"
    assert shell.run("collections", "delete", "Birds \u732b").returncode == 0
    assert json.loads(shell.run("collections", "list", "--json").stdout)["collections"] == []


def test_what_can_not_be_done_is_one_line(shell: Shell) -> None:
    for arguments, said in (
        (("show", "nowhere"), "no board is called 'nowhere'"),
        (("show", "00000000-0000-0000-0000-000000000001"), "no collection"),
        (("create", " "), "name"),
        (("create", "x", "12"), "'12' is not the id of an asset"),
        (("note", "x", "00000000-0000-0000-0000-000000000001", "n" * 4001), "4000 characters"),
        (("export", "x", "-o", "x.exe"), ".csv, .json, .pdf or .png"),
    ):
        done = shell.run("collections", *arguments)
        assert done.returncode in (1, 2), (arguments, done.stdout)
        assert said in done.stderr, arguments
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
