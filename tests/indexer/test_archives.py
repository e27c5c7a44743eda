from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from indexer.sources import SourceItem, SourceOptions, archive, open_sources
from phosphene.errors import InvalidInput, PictureError, PictureFault

Members = Mapping[str, bytes]


def make_tar(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def items_of(path: Path, **options: int) -> list[SourceItem]:
    return list(open_sources([str(path)], SourceOptions(**options)))  # type: ignore[arg-type]  # only max_bytes is given


SHARD = {
    "00000/000000001.jpg": b"one",
    "00000/000000001.json": json.dumps(
        {"caption": "A fox", "url": "https://example.org/1.jpg", "key": "000000001", "width": 256, "exif": "{}"}
    ).encode(),
    "00000/000000001.txt": b"A fox",
    "00000/000000002.txt": b"A cat",
    "00000/000000002.jpg": b"two",
    "00000/000000003.webp": b"three",
}


@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz", "shard.TGZ"])
def test_members_of_one_key_belong_together(tmp_path: Path, name: str) -> None:
    path = make_tar(tmp_path / name.lower(), SHARD).rename(tmp_path / name)
    items = items_of(path)
    assert [(item.uri, item.read(), item.title, item.size) for item in items] == [
        (f"{path}::00000/000000001.jpg", b"one", "A fox", 3),
        (f"{path}::00000/000000002.jpg", b"two", "A cat", 3),
        (f"{path}::00000/000000003.webp", b"three", None, 5),
    ]
    assert items[0].metadata == {
        "caption": "A fox",
        "url": "https://example.org/1.jpg",
        "key": "000000001",
        "source_width": 256,
        "exif": "{}",
    }
    again = items_of(path)
    assert [item.fingerprint for item in again] == [item.fingerprint for item in items]
    assert len({item.fingerprint for item in items}) == 3


def test_pictures_with_dots_in_their_names_keep_their_own_sidecars(tmp_path: Path) -> None:
    path = make_tar(
        tmp_path / "dots.tar",
        {
            "IMG.1.jpg": b"1",
            "IMG.1.txt": b"first",
            "IMG.2.jpg": b"2",
            "IMG.2.jpg.json": b'{"title": "second"}',
            "deep/000.seg.png": b"3",
            "deep/000.json": b'{"title": "shared"}',
        },
    )
    found = [(item.read(), item.title) for item in items_of(path)]
    assert found == [(b"1", "first"), (b"2", "second"), (b"3", "shared")]


def test_odd_members_are_passed_over_and_nothing_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind, link in [
            ("folder.jpg", tarfile.DIRTYPE, ""),
            ("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.jpg", tarfile.LNKTYPE, "../../etc/passwd"),
            ("pipe.jpg", tarfile.FIFOTYPE, ""),
            ("device.jpg", tarfile.CHRTYPE, ""),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            tar.addfile(member)
        for name in ("../../evil.jpg", "/absolute.jpg", ".hidden.jpg", "._mac.jpg", "notes.md"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"data"))
    sources = open_sources([str(path)], SourceOptions())
    assert [(item.uri, item.read()) for item in sources] == [
        (f"{path}::../../evil.jpg", b"data"),
        (f"{path}::absolute.jpg", b"data"),
    ]
    assert sources.skipped == 7
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["big.tar", "big.tar.gz"])
def test_members_over_the_limit_are_refused_unread(tmp_path: Path, name: str) -> None:
    path = make_tar(tmp_path / name, {"a.jpg": b"small", "b.jpg": b"x" * 100, "c.jpg": b"small"})
    outcomes = []
    for item in items_of(path, max_bytes=10):
        try:
            outcomes.append(item.read())
        except PictureError as error:
            outcomes.append(str(error.fault).encode())
    assert outcomes == [b"small", b"too_many_bytes", b"small"]


@pytest.mark.parametrize("name", ["cut.tar", "cut.tar.gz"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_damaged_archive_yields_what_comes_before_and_says_where_it_broke(
    tmp_path: Path, name: str, keep: float
) -> None:
    noise = [random.Random(number).randbytes(10_000) for number in range(10)]
    path = make_tar(tmp_path / name, {f"{number}.jpg": data for number, data in enumerate(noise)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    items = items_of(path)
    assert len(items) >= 1
    with pytest.raises(PictureError) as caught:
        items[-1].read()
    assert caught.value.fault is PictureFault.UNREADABLE
    assert "damaged" in str(caught.value)
    whole = int(keep * 10) - 1  # the last one before the cut may be cut itself
    for number, item in enumerate(items[:whole] if name.endswith(".tar") else items[:-1]):
        assert item.read() == noise[number]


@pytest.mark.parametrize("data", [b"", b"text, not a tar" * 100, b"\x1f\x8b\x08broken"])
@pytest.mark.parametrize("name", ["no.tar", "no.tar.gz"])
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInput, match="no tar that can be read"):
        items_of(tmp_path / name)


def test_a_pattern_reads_shards_one_after_the_other(tmp_path: Path) -> None:
    for number in range(3):
        make_tar(tmp_path / f"{number:05}.tar", {f"{number}.jpg": b"%d" % number})
        (tmp_path / f"{number:05}_stats.json").write_text("{}")
    sources = open_sources([f"{tmp_path}/*.tar"], SourceOptions())
    assert [item.read() for item in sources] == [b"0", b"1", b"2"]
    assert sources.count() is None


def test_metadata_of_img2dataset_is_joined_by_key(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "00000.tar", {"000000001.jpg": b"1", "000000002.jpg": b"2"})
    rows = ("url,key,caption", "https://e.org/1,000000001,A fox", "https://e.org/2,000000002,A cat")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    sources = open_sources([str(path)], SourceOptions(metadata=str(tmp_path / "m.csv")))
    assert [item.title for item in sources] == ["A fox", "A cat"]
    assert [item.metadata["url"] for item in sources] == ["https://e.org/1", "https://e.org/2"]
    sources.close()


@pytest.mark.parametrize("first", ["long.jpg", "small.jpg"])
def test_a_few_packed_bytes_do_not_become_a_header_of_gigabytes(tmp_path: Path, first: str) -> None:
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        if first == "small.jpg":
            tar.addfile(tarfile.TarInfo(first), io.BytesIO())
        long = tarfile.TarInfo("././@PaxHeader")
        long.type, long.size = tarfile.XHDTYPE, 8 * 2**20
        tar.addfile(long, io.BytesIO(bytes(long.size)))
    said = "a header in it is longer than 4,194,304 bytes"
    if first == "long.jpg":
        with pytest.raises(InvalidInput, match=said):
            items_of(path)
    else:
        with pytest.raises(PictureError, match=f"damaged and was read up to 'small': {said}"):
            items_of(path)[-1].read()


def test_pictures_of_one_key_are_held_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"a.txt": b"A fox", **{f"a.{number}.jpg": b"12345678" for number in range(4)}}
    path = make_tar(tmp_path / "group.tar.gz", members)
    assert [item.title for item in items_of(path)] == ["A fox"] * 4
    monkeypatch.setattr(archive, "_MAX_GROUP_BYTES", 16)
    assert [item.title for item in items_of(path)] == ["A fox", "A fox", None, None]


def test_an_archive_is_streamed_from_another_file_system(tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    files.pipe("/shards/s.tar", make_tar(tmp_path / "s.tar", SHARD).read_bytes())
    items = list(open_sources(["memory:///shards/s.tar"], SourceOptions()))
    assert [item.read() for item in items] == [b"one", b"two", b"three"]


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "many.tar", {f"{number}.jpg": b"x" for number in range(2000)})
    from indexer.sources.archive import Archive
    from indexer.sources.local import LocalFiles

    opened: list[tarfile.TarFile] = []

    class Watched(Archive):
        def _tar(self, file: object) -> tarfile.TarFile:
            opened.append(super()._tar(file))  # type: ignore[arg-type]  # it is that file
            return opened[-1]

    for _ in Watched(LocalFiles(str(path)), max_bytes=100):
        assert len(opened[-1].members) <= 1  # type: ignore[attr-defined]  # not in the stubs
