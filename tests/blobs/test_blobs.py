"""One contract for every blob store; what only a folder or only S3 does stands below."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fsspec.registry import _registry as fsspec_registry
from hypothesis import given
from hypothesis import strategies as st

from phosphene.blobs import BlobStore, FolderBlobs, original_key, preview_key, thumbnail_key
from phosphene.errors import Forbidden, InvalidInput, InvalidSettings, NotFound, PhospheneError, Unavailable
from phosphene.types import Sha256, sha256_of
from tests.services import S3Server, as_user, unprivileged

DATA = b"\xff\xd8 not really a picture"
KEY = original_key(sha256_of(DATA))


@pytest.fixture(params=["folder", "file url", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "deep" / "blobs")
    if request.param == "file url":
        return f"file://{tmp_path}/with%20space/blobs"
    if request.param == "memory":
        return f"memory://{uuid4().hex}"
    return str(request.getfixturevalue("s3_url"))


@pytest.fixture
def store(url: str) -> Iterator[BlobStore]:
    opened = BlobStore.at(url)
    yield opened
    opened.close()


def test_what_is_put_can_be_got(store: BlobStore) -> None:
    store.put(KEY, DATA)
    assert store.get(KEY) == DATA
    assert store.exists(KEY)


def test_empty_and_large_blobs_come_back(store: BlobStore) -> None:
    large = os.urandom(9 * 2**20)
    store.put("originals/large", large)
    store.put("originals/empty", b"")
    assert store.get("originals/large") == large
    assert store.get("originals/empty") == b""


def test_a_missing_key_is_always_not_found(store: BlobStore) -> None:
    assert not store.exists(KEY)
    with pytest.raises(NotFound, match="no blob originals/"):
        store.get(KEY)
    store.put(KEY, DATA)
    assert not store.exists("originals")
    with pytest.raises(NotFound):
        store.get("originals")


def test_deleting_twice_is_no_error(store: BlobStore) -> None:
    store.put(KEY, DATA)
    store.delete(KEY)
    store.delete(KEY)
    assert not store.exists(KEY)


def test_other_content_replaces(store: BlobStore) -> None:
    store.put(KEY, b"damaged")
    store.put(KEY, DATA)
    assert store.get(KEY) == DATA
    store.put(KEY, DATA[::-1])  # of the same length
    assert store.get(KEY) == DATA[::-1]


def test_keys_are_listed_by_whole_parts_of_their_prefix(store: BlobStore) -> None:
    names = ["originals/ab/1", "originals/ab/2", "originals/abc/3", "thumbnails/ab/1.jpg"]
    store.put_many({name: name.encode() for name in names})
    assert list(store.keys("originals")) == names[:3]
    assert list(store.keys("originals/ab")) == names[:2]
    assert list(store.keys("originals/ab/")) == names[:2]
    assert set(names) <= set(store.keys(""))
    assert list(store.keys("previews")) == []


def test_a_store_opened_again_has_everything(url: str, store: BlobStore) -> None:
    store.put(KEY, DATA)
    again = BlobStore.at(url)
    assert again.get(KEY) == DATA
    again.close()


def test_no_key_leads_out_of_the_store(store: BlobStore) -> None:
    outside = [
        "",
        "/etc/passwd",
        "../secret",
        "a/../../b",
        "a//b",
        "a/",
        ".hidden",
        "a/.tmp-1",
        "a\\b",
        "a\nb",
        "a\x00b",
    ]
    for key in outside:
        for attempt in (store.get, store.exists, store.delete, lambda key: store.put(key, b"")):
            with pytest.raises(InvalidInput, match="no blob key"):
                attempt(key)


@given(key=st.text(max_size=40))
def test_a_key_that_is_taken_stays_below_the_root(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    root = tmp_path_factory.getbasetemp() / "property"
    store = FolderBlobs(root)
    try:
        store.put(key, b"x")
    except (InvalidInput, Unavailable):  # the second: a key below one that is a file already
        return
    finally:
        store.close()
    assert (root / key).resolve().is_relative_to(root.resolve())


def test_keys_are_spread_by_the_hash() -> None:
    sha256 = Sha256("ab" * 32)
    assert original_key(sha256) == f"originals/ab/ab/{sha256}"
    assert thumbnail_key(sha256) == f"thumbnails/ab/ab/{sha256}.jpg"
    assert preview_key(sha256) == f"previews/ab/ab/{sha256}.jpg"


def test_readers_see_all_of_a_blob_or_none(store: BlobStore) -> None:
    """Two contents take turns under one key while a reader looks on."""
    contents = {bytes([value]) * 300_000 for value in (1, 2)}
    store.put(KEY, min(contents))
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(store.get(KEY))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        for content in sorted(contents):
            store.put(KEY, content)
    done.set()
    reader.join()
    assert seen <= contents


# --- a folder


def test_files_are_readable_by_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        store = BlobStore.at(str(tmp_path))
        store.put(KEY, DATA)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o644


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    store = BlobStore.at(str(tmp_path))
    store.put(KEY, DATA)
    before = (tmp_path / KEY).stat()
    store.put(KEY, DATA)
    after = (tmp_path / KEY).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_disk_has_a_blob_before_its_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore.at(str(tmp_path))
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(handle: int) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_replace(path: Path, target: Path) -> Path:
        happened.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    store.put("originals/one", DATA)
    # The new folder's name, then the content, then the name, then the folder that holds the name.
    assert happened == ["folder", "file", "rename", "folder"]


def test_a_write_that_was_killed_leaves_no_blob(tmp_path: Path) -> None:
    """A process is killed between the write and the rename."""
    program = f"""
import os, sys
from pathlib import Path
from phosphene.blobs import FolderBlobs
Path.replace = lambda self, target: os.kill(os.getpid(), 9)
FolderBlobs(Path({str(tmp_path)!r})).put({KEY!r}, b"half")
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -9
    store = BlobStore.at(str(tmp_path))
    assert not store.exists(KEY)
    assert list(store.keys("originals")) == []
    assert store.tidy(older_than_s=3600) == 0
    assert store.tidy(older_than_s=-1) == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "README.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = BlobStore.at(str(tmp_path))

    def full(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / KEY).parent.mkdir(parents=True)
    with pytest.raises(Unavailable, match=r"no room left in the blob store .*free some space") as caught:
        store.put(KEY, DATA)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "originals").rglob("*") if path.is_file()]


def test_a_really_full_disk(tmp_path: Path) -> None:
    """The file system refuses: /dev/full stands for it where no small one can be mounted."""
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("wb", buffering=0) as full:
        full.write(DATA)
    trouble = FolderBlobs(tmp_path)._trouble(caught.value)
    assert isinstance(trouble, Unavailable)


def test_a_folder_that_may_not_be_written_is_one_clear_line(tmp_path: Path) -> None:
    user = unprivileged()
    program = f"""
from phosphene.blobs import BlobStore
from phosphene.errors import Forbidden
try:
    BlobStore.at({str(tmp_path / "blobs")!r})
except Forbidden as error:
    print(error)
"""
    if user is None:
        tmp_path.chmod(0o555)
    # Root may write anywhere: another user tries.
    source = Path(__file__).parents[2]
    environment = {"PYTHONPATH": os.pathsep.join([str(source), *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"}
    tried = subprocess.run(
        [*as_user(user), sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        cwd="/",
    )
    tmp_path.chmod(0o755)
    if tried.returncode != 0 and "ermission denied" in tried.stderr and "phosphene" not in tried.stderr:
        pytest.fail(f"the other user can't run this Python: {tried.stderr}", pytrace=False)
    if "ModuleNotFoundError" in tried.stderr:
        pytest.skip("this checkout lies in a folder that only root may read, so no other user can try")
    assert "refuses us" in tried.stdout, tried.stderr
    assert tried.stdout.count("\n") == 1


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "originals").write_bytes(b"in the way")
    store = BlobStore.at(str(tmp_path))
    with pytest.raises(Unavailable, match="file where"):
        store.put(KEY, DATA)


# --- others


def test_a_bucket_that_is_not_there_is_named(s3_url: str) -> None:
    with pytest.raises(Unavailable, match="s3://no-such-bucket/x does not exist: make the bucket"):
        BlobStore.at("s3://no-such-bucket/x")
    assert s3_url


def test_wrong_credentials_are_forbidden(s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
    s3_server.request("POST", "/moto-api/reset-auth", b"0")
    try:
        with pytest.raises(Forbidden, match=r"refuses us.*credentials") as caught:
            BlobStore.at(s3_url)
    finally:
        s3_server.request("POST", "/moto-api/reset-auth", b"inf")
    assert "\n" not in str(caught.value)


def test_a_dead_s3_server_is_unavailable(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="does not work"):
        BlobStore.at(s3_url.replace("bucket-", "bucket-other-"))


def test_s3_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(fsspec_registry, "s3", raising=False)
    with pytest.raises(InvalidSettings, match=r"pip install 'phosphene\[s3\]'"):
        BlobStore.at("s3://bucket/pictures")


def test_an_unknown_kind_of_store_is_refused_without_its_password() -> None:
    with pytest.raises(InvalidSettings) as caught:
        BlobStore.at("nowhere://me:hunter2@host/x")
    assert "hunter2" not in str(caught.value)


def test_errors_of_our_own_pass_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = BlobStore.at(str(tmp_path))

    def refuse(_key: str) -> bytes:
        raise PhospheneError("as it is")

    monkeypatch.setattr(store, "_get", refuse)
    with pytest.raises(PhospheneError, match="as it is"):
        store.get(KEY)
