from __future__ import annotations

import io
import itertools
import json
import os
import socket
import tarfile
import zipfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.sources import SourceItem, SourceOptions, open_sources
from phosphene.errors import InvalidInput, InvalidManifest, PictureError, PictureFault


def items_of(*specs: str | Path, options: SourceOptions | None = None) -> list[SourceItem]:
    return list(open_sources([str(spec) for spec in specs], options or SourceOptions()))


def names_of(items: list[SourceItem]) -> list[str]:
    return [item.uri.rpartition("/")[2] for item in items]


def fault_of(item: SourceItem) -> PictureFault:
    with pytest.raises(PictureError) as caught:
        item.read()
    return caught.value.fault


def write(path: Path, data: bytes = b"picture") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_folder_is_walked_in_order_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "sub/deep/d.avif", ".hidden.jpg", ".git/e.jpg", "notes.md", "x.csv"):
        write(tmp_path / name, name.encode())
    sources = open_sources([str(tmp_path)], SourceOptions())
    items = list(sources)
    assert [item.uri for item in items] == [
        str(tmp_path / name) for name in ("a.PNG", "b.jpg", "sub/c.webp", "sub/deep/d.avif")
    ]
    assert [item.read() for item in items] == [b"a.PNG", b"b.jpg", b"sub/c.webp", b"sub/deep/d.avif"]
    assert sources.skipped == 2
    assert sources.count() == 4


def test_sidecars_are_read_and_json_holds_over_text(tmp_path: Path) -> None:
    write(tmp_path / "fox.jpg")
    write(tmp_path / "fox.json", b'{"title": "Fox", "year": 1990}')
    write(tmp_path / "fox.txt", b"A fox in snow")
    write(tmp_path / "cat.jpg")
    write(tmp_path / "cat.jpg.json", b'{"title": "Cat"}')
    write(tmp_path / "lone.json", b"{}")
    sources = open_sources([str(tmp_path)], SourceOptions())
    cat, fox = list(sources)
    assert (fox.title, fox.metadata) == ("Fox", {"year": 1990, "caption": "A fox in snow"})
    assert (cat.title, cat.metadata) == ("Cat", {})
    assert sources.skipped == 1
    (single,) = items_of(tmp_path / "fox.jpg")
    assert (single.title, single.metadata) == (fox.title, fox.metadata)


@pytest.mark.parametrize("sidecar", [b"{not json", b"[1]", b"[" * 100_000, b'{"a": 1, "A": 2}'])
def test_a_broken_sidecar_puts_its_picture_in_quarantine(tmp_path: Path, sidecar: bytes) -> None:
    write(tmp_path / "fox.jpg")
    write(tmp_path / "fox.json", sidecar)
    (item,) = items_of(tmp_path)
    assert fault_of(item) is PictureFault.BAD_METADATA


def test_sidecars_are_found_in_large_folders(tmp_path: Path) -> None:
    for number in range(1500):
        write(tmp_path / f"{number:04}.jpg")
        write(tmp_path / f"{number:04}.txt", f"number {number}".encode())
    items = items_of(tmp_path)
    assert [item.title for item in items] == [f"number {number}" for number in range(1500)]


def test_links_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a.jpg")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "real")
    assert [item.uri for item in items_of(tmp_path)] == [
        str(tmp_path / "again" / "a.jpg"),
        str(tmp_path / "real" / "a.jpg"),
    ]


def test_what_can_not_be_read_says_why_and_never_blocks(tmp_path: Path) -> None:
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    write(tmp_path / "vanishes.jpg")
    write(tmp_path / "photo.heic")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path must be short
        try:
            listener.bind("socket.jpg")
        finally:
            os.chdir(here)
        items = {item.uri.rpartition("/")[2]: item for item in items_of(tmp_path)}
        (tmp_path / "vanishes.jpg").unlink()
        reasons = {}
        for name, item in items.items():
            with pytest.raises(PictureError) as caught:
                item.read()
            reasons[name] = (caught.value.fault, str(caught.value))
    assert reasons["dangling.jpg"] == (
        PictureFault.UNREADABLE,
        f"a link to {tmp_path / 'nowhere'}, which does not exist",
    )
    assert reasons["circle.jpg"][0] is PictureFault.UNREADABLE
    assert reasons["pipe.jpg"] == (PictureFault.UNREADABLE, "this is a pipe, not a file")
    assert reasons["socket.jpg"][0] is PictureFault.UNREADABLE
    assert reasons["vanishes.jpg"] == (PictureFault.UNREADABLE, "the file vanished before it was read")
    assert reasons["photo.heic"] == (
        PictureFault.UNSUPPORTED_FORMAT,
        "HEIC is not read; convert it to JPEG or PNG",
    )


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    with write(tmp_path / "huge.jpg").open("r+b") as file:
        file.truncate(10 * 2**30)
    (item,) = items_of(tmp_path)
    assert fault_of(item) is PictureFault.TOO_MANY_BYTES


def test_names_that_are_no_utf8_are_shown_with_escapes(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(path)).write_bytes(b"picture")
    (item,) = items_of(tmp_path)
    assert item.uri.endswith("caf\\xe9.jpg")
    assert item.read() == b"picture"


def test_the_fingerprint_changes_with_the_bytes_even_if_size_and_mtime_do_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", b"before")
    (before,) = items_of(tmp_path)
    assert items_of(tmp_path)[0].fingerprint == before.fingerprint
    status = path.stat()
    path.write_bytes(b"after!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert items_of(tmp_path)[0].fingerprint != before.fingerprint


def test_a_folder_streams(tmp_path: Path) -> None:
    for number in range(3000):
        write(tmp_path / f"{number // 100:02}" / f"{number}.jpg")
    for number, item in enumerate(open_sources([str(tmp_path)], SourceOptions())):
        if number == 10:
            (tmp_path / "29" / "2950.jpg").unlink()  # not listed yet
        last = item
    assert number == 2998
    assert last.uri.endswith("2999.jpg")


def test_patterns_match_pictures_archives_and_manifests(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.txt", "sub/d.jpg", ".e.jpg"):
        write(tmp_path / name)
    write(tmp_path / "m.csv", b"file,title\nsub/d.jpg,Dee\n")
    assert names_of(items_of(f"{tmp_path}/*.jpg")) == ["a.jpg", "b.jpg"]
    assert names_of(items_of(f"{tmp_path}/**/*.jpg")) == ["a.jpg", "b.jpg", "d.jpg"]
    everything = items_of(f"{tmp_path}/*")
    assert [(item.uri.rpartition("/")[2], item.title) for item in everything] == [
        ("a.jpg", None),
        ("b.jpg", None),
        ("d.jpg", "Dee"),
    ]
    with pytest.raises(InvalidInput, match=r"matches no file"):
        items_of(f"{tmp_path}/*.png")


def test_a_name_with_brackets_is_a_name_where_it_exists(tmp_path: Path) -> None:
    write(tmp_path / "a[1].jpg")
    assert names_of(items_of(tmp_path / "a[1].jpg")) == ["a[1].jpg"]


@pytest.mark.parametrize("spec", ["nowhere", "nowhere/a.jpg", "nowhere.csv", "nowhere.tar", "", "a\x00b"])
def test_what_does_not_exist_is_named_before_anything_starts(tmp_path: Path, spec: str) -> None:
    with pytest.raises(InvalidInput):
        open_sources([str(tmp_path), f"{tmp_path}/{spec}" if spec.startswith("nowhere") else spec], SourceOptions())


def test_file_urls_and_several_sources_in_their_order(tmp_path: Path) -> None:
    write(tmp_path / "b" / "b.jpg")
    write(tmp_path / "a" / "a.jpg")
    assert names_of(items_of(f"file://{tmp_path}/b", tmp_path / "a")) == ["b.jpg", "a.jpg"]


@pytest.fixture
def memory_folder() -> str:
    files = fsspec.filesystem("memory")
    root = f"/pictures-{os.urandom(4).hex()}"
    files.pipe(f"{root}/b.jpg", b"bee")
    files.pipe(f"{root}/sub/a.jpg", b"ay")
    files.pipe(f"{root}/sub/a.json", json.dumps({"title": "Ay"}).encode())
    files.pipe(f"{root}/.hidden/c.jpg", b"sea")
    files.pipe(f"{root}/m.csv", b"file,year\nsub/a.jpg,1990\n")
    return f"memory://{root}"


def test_fsspec_folders_files_patterns_and_manifests(memory_folder: str) -> None:
    items = items_of(memory_folder)
    assert [(item.uri, item.read(), item.title) for item in items] == [
        (f"{memory_folder}/b.jpg", b"bee", None),
        (f"{memory_folder}/sub/a.jpg", b"ay", "Ay"),
    ]
    assert items[0].size == 3
    assert items[0].fingerprint == items_of(memory_folder)[0].fingerprint
    assert [item.read() for item in items_of(f"{memory_folder}/b.jpg")] == [b"bee"]
    assert [item.read() for item in items_of(f"{memory_folder}/**/*.jpg")] == [b"bee", b"ay"]
    (row,) = items_of(f"{memory_folder}/m.csv")
    assert (row.uri, row.read(), row.metadata) == (f"{memory_folder}/sub/a.jpg", b"ay", {"year": 1990})
    with pytest.raises(InvalidInput, match="does not exist"):
        items_of(f"{memory_folder}/nowhere")


def test_folders_patterns_manifests_archives_and_metadata_on_s3(s3_url: str) -> None:
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    table, shard = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"file": ["sub/a.jpg"], "title": ["Ay"]}), table)
    with tarfile.open(fileobj=shard, mode="w:gz") as tar:
        for name in ("x.jpg", "x.txt"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    for name, data in {
        "b.jpg": b"bee",
        "sub/a.jpg": b"ay",
        "m.parquet": table.getvalue(),
        "0.tar.gz": shard.getvalue(),
    }.items():
        files.pipe(f"{s3_url.removeprefix('s3://')}/{name}", data)
    folder, again = items_of(s3_url), items_of(s3_url)
    assert [(item.uri, item.read()) for item in folder] == [
        (f"{s3_url}/b.jpg", b"bee"),
        (f"{s3_url}/sub/a.jpg", b"ay"),
    ]
    assert [item.fingerprint for item in folder] == [item.fingerprint for item in again] != [None, None]
    assert [item.read() for item in items_of(f"{s3_url}/**/*.jpg")] == [b"bee", b"ay"]
    (row,) = items_of(f"{s3_url}/m.parquet")
    assert (row.uri, row.title, row.read()) == (f"{s3_url}/sub/a.jpg", "Ay", b"ay")
    assert row.fingerprint == folder[1].fingerprint
    (member_of,) = items_of(f"{s3_url}/0.tar.gz")
    assert (member_of.title, member_of.read()) == ("x.txt", b"x.jpg")
    described = items_of(s3_url, options=SourceOptions(metadata=f"{s3_url}/m.parquet"))
    assert [item.title for item in described] == [None, "Ay"]


def test_remote_files_over_the_limit_are_refused(memory_folder: str) -> None:
    (item,) = items_of(f"{memory_folder}/b.jpg", options=SourceOptions(max_bytes=2))
    assert fault_of(item) is PictureFault.TOO_MANY_BYTES


def test_zip_files_are_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("deep/fox.jpg", b"fox")
        archive.writestr("deep/fox.txt", "A fox")
        archive.writestr("__MACOSX/deep/._fox.jpg", b"junk")
        archive.writestr("../../evil.jpg", b"evil")
    items = items_of(tmp_path / "z.zip")
    assert ("A fox", b"fox") in [(item.title, item.read()) for item in items]
    assert not [item for item in items if b"junk" in item.read()]
    assert list(tmp_path.iterdir()) == [tmp_path / "z.zip"]


@pytest.mark.parametrize(
    "spec", ["https://example.org/a.jpg", "zip://::https://example.org/a.zip", "ftp://example.org/a.jpg"]
)
def test_the_web_is_not_reached_unless_allowed_nor_past_the_checks(spec: str) -> None:
    with pytest.raises(InvalidInput):
        open_sources([spec], SourceOptions())
    if not spec.startswith("https"):
        with pytest.raises(InvalidInput):
            open_sources([spec], SourceOptions(fetch_urls=True))


def test_callers_from_outside_name_addresses_only(tmp_path: Path) -> None:
    write(tmp_path / "a.jpg")
    outside = SourceOptions(fetch_urls=True, local_files=False)
    for spec in (str(tmp_path), f"file://{tmp_path}", "memory://x", f"zip://::{tmp_path}/z.zip"):
        with pytest.raises(InvalidInput, match="no http or https address"):
            open_sources([spec], outside)
    with pytest.raises(InvalidInput):
        open_sources(
            ["https://example.org/a.jpg"], SourceOptions(fetch_urls=True, local_files=False, metadata="/etc/passwd")
        )


def test_a_manifest_is_joined_by_path_name_or_stem(tmp_path: Path) -> None:
    for name in ("a/x.jpg", "b/x.jpg", "b/y.jpg", "z.jpg"):
        write(tmp_path / "pictures" / name)
    write(tmp_path / "pictures" / "z.txt", b"from the sidecar")
    write(
        tmp_path / "said.csv",
        b"file,title,Year\na/x.jpg,first x,1990\nb/x.jpg,second x,1991\nelsewhere/y.jpg,y,1992\nz,z,1993\n",
    )
    sources = open_sources([str(tmp_path / "pictures")], SourceOptions(metadata=str(tmp_path / "said.csv")))
    said = {item.uri.removeprefix(f"{tmp_path}/pictures/"): (item.title, item.metadata) for item in sources}
    assert said == {
        "a/x.jpg": ("first x", {"year": 1990}),
        "b/x.jpg": ("second x", {"year": 1991}),
        "b/y.jpg": ("y", {"year": 1992}),
        "z.jpg": ("z", {"year": 1993, "caption": "from the sidecar"}),
    }
    sources.close()


def test_an_ambiguous_name_joins_nothing(tmp_path: Path) -> None:
    write(tmp_path / "pictures" / "c" / "x.jpg")
    write(tmp_path / "said.csv", b"file,title\na/x.jpg,one\nb/x.jpg,two\n")
    (item,) = items_of(tmp_path / "pictures", options=SourceOptions(metadata=str(tmp_path / "said.csv")))
    assert item.title is None


@pytest.mark.parametrize("metadata", ["nowhere.csv", "pictures", "said.doc"])
def test_metadata_that_is_no_manifest_is_refused(tmp_path: Path, metadata: str) -> None:
    write(tmp_path / "pictures" / "x.jpg")
    write(tmp_path / "said.doc")
    with pytest.raises(InvalidManifest):
        items_of(tmp_path / "pictures", options=SourceOptions(metadata=str(tmp_path / metadata)))


def test_pictures_with_one_key_and_many_dots_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(3000):
        write(tmp_path / f"IMG.{number:05}.jpg")
    first = list(itertools.islice(open_sources([str(tmp_path)], SourceOptions()), 2500))
    assert len({item.uri for item in first}) == 2500
