"""Originals, thumbnails and previews, by content: in a folder, in memory://, or wherever fsspec reaches."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from phosphene.errors import Forbidden, InvalidInput, InvalidSettings, NotFound, PhospheneError, Unavailable
from phosphene.types import GenerationId, Sha256

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_TEMPORARY = ".tmp-"  # no part of a key begins with a dot
_WRITERS = 8
_MARK = ("README.txt", b"Pictures by the sha256 of their bytes, kept by Phosphene. Don't edit.\n")
_OBJECT_STORES = frozenset({"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "r2"})
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_VENDORS = frozenset({"botocore", "aiobotocore", "aiohttp", "gcsfs", "azure", "google", "paramiko"})


def original_key(sha256: Sha256) -> str:
    """Where the bytes of a picture lie as they came."""
    return f"originals/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def thumbnail_key(sha256: Sha256) -> str:
    """Where its small copy lies."""
    return f"thumbnails/{sha256[:2]}/{sha256[2:4]}/{sha256}.jpg"


def preview_key(sha256: Sha256) -> str:
    """Where its middle-sized copy lies."""
    return f"previews/{sha256[:2]}/{sha256[2:4]}/{sha256}.jpg"


GENERATION_INPUTS = "generation-inputs"
GENERATIONS = "generations"


def generation_input_key(id_: GenerationId, number: int) -> str:
    """Where a picture lies that was uploaded for a generation, until the generation ends."""
    return f"{GENERATION_INPUTS}/{id_}/{number}"


def generation_key(id_: GenerationId, sha256: Sha256, format_: str) -> str:
    """Where a generated picture lies: all of one generation together, so that nothing of a failed one is missed."""
    return f"{GENERATIONS}/{id_}/{sha256}.{format_}"


class BlobStore(ABC):
    """Bytes under keys like `originals/ab/cd/abcd…`. Safe to use from many threads.

    Every method may raise Unavailable (try again), Forbidden (the store refuses us), and InvalidInput for a key that
    is not made of letters, digits, `.`, `_`, `-` and `/`: no key leads out of the store.
    """

    def __init__(self, name: str) -> None:
        self.name = name  # for messages: without a password
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="blobs")

    @classmethod
    def at(cls, url: str) -> BlobStore:
        """Open the store at a folder's path, memory://…, s3://bucket/prefix or another fsspec URL, ready for writing.

        Raises InvalidSettings for a URL that nothing here can open, Unavailable and Forbidden as any write does.
        """
        store: BlobStore
        if "://" not in url:
            store = FolderBlobs(Path(url).expanduser())
        elif url.startswith("file://"):
            store = FolderBlobs(Path(unquote(urlsplit(url).path)))
        else:
            store = RemoteBlobs(url)
        store.put(*_MARK)
        return store

    def put(self, key: str, data: bytes) -> None:
        """Write a blob, durable on return; readers see all of it or none. The same content again writes nothing."""
        _check(key)
        with self._explained(key):
            self._put(key, data)

    def put_many(self, blobs: Mapping[str, bytes]) -> None:
        """Write several blobs at once: the waits for the disk or the network overlap."""
        writes = [self._writers.submit(self.put, key, data) for key, data in blobs.items()]
        wait(writes)
        for write in writes:
            write.result()

    def get(self, key: str) -> bytes:
        """Read a blob. Raises NotFound."""
        _check(key)
        with self._explained(key):
            return self._get(key)

    def exists(self, key: str) -> bool:
        """Say whether there is such a blob."""
        _check(key)
        with self._explained(key):
            return self._exists(key)

    def delete(self, key: str) -> None:
        """Remove a blob; a missing one is no error."""
        _check(key)
        with self._explained(key), suppress(FileNotFoundError, NotADirectoryError):
            self._delete(key)

    def delete_below(self, prefix: str, *, but: Collection[str] = ()) -> None:
        """Remove all blobs below a prefix, but for some keys."""
        for key in [key for key in self.keys(prefix) if key not in but]:
            self.delete(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """List the keys below a prefix like `originals` or `originals/ab`, or, with "", all, in order."""
        prefix = prefix.rstrip("/")
        if prefix:
            _check(prefix)
        with self._explained(prefix):
            yield from self._keys(prefix)

    def tidy(self, *, older_than_s: float) -> int:  # noqa: ARG002  a folder's has more to do
        """Remove what writes left that were killed half-way; give how much it was."""
        return 0

    def close(self) -> None:
        """Wait for writes under way."""
        self._writers.shutdown()

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except PhospheneError:
            raise
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            msg = f"no blob {key} in {self.name}"
            raise NotFound(msg) from error
        except OSError as error:
            raise self._trouble(error) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _VENDORS:
                raise
            raise self._trouble(error) from error

    def _trouble(self, error: Exception) -> PhospheneError:
        line = " ".join(str(error).split()) or type(error).__name__
        number = error.errno if isinstance(error, OSError) else None
        if number in _NO_ROOM:
            return Unavailable(f"no room left in the blob store {self.name}: free some space and try again")
        if number in _DENIED or isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
            return Forbidden(f"the blob store {self.name} refuses us: {line}: check its permissions or our credentials")
        return Unavailable(f"the blob store {self.name} does not work: {line}")

    @abstractmethod
    def _put(self, key: str, data: bytes) -> None: ...

    @abstractmethod
    def _get(self, key: str) -> bytes: ...

    @abstractmethod
    def _exists(self, key: str) -> bool: ...

    @abstractmethod
    def _delete(self, key: str) -> None: ...

    @abstractmethod
    def _keys(self, prefix: str) -> Iterator[str]: ...


def _check(key: str) -> None:
    if not _KEY.fullmatch(key):
        msg = f"{key!r} is no blob key: letters, digits, '.', '_', '-' between slashes, no part beginning with a dot"
        raise InvalidInput(msg)


class FolderBlobs(BlobStore):
    """Blobs as files, mode 0644. A write goes to a temporary file beside it, to the disk, and then to its name."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self._root = root

    def _put(self, key: str, data: bytes) -> None:
        path = self._root / key
        try:
            if path.stat().st_size == len(data) and path.read_bytes() == data:
                return
        except FileNotFoundError:
            _make_folders(path.parent)
        except NotADirectoryError as error:
            raise Unavailable(
                f"the blob store {self.name} has a file where a folder should be, on the way to {key}"
            ) from error
        temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            _write_durably(temporary, data)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(path.parent)

    def _get(self, key: str) -> bytes:
        return (self._root / key).read_bytes()

    def _exists(self, key: str) -> bool:
        return (self._root / key).is_file()

    def _delete(self, key: str) -> None:
        (self._root / key).unlink()

    def _keys(self, prefix: str) -> Iterator[str]:
        for path in _files(self._root / prefix):
            if not path.name.startswith("."):
                yield path.relative_to(self._root).as_posix()

    def delete_below(self, prefix: str, *, but: Collection[str] = ()) -> None:
        """Remove all blobs below a prefix, but for some keys, and the folder where it is empty then."""
        super().delete_below(prefix, but=but)
        with suppress(OSError):
            (self._root / prefix).rmdir()

    def tidy(self, *, older_than_s: float) -> int:
        """Remove temporary files that a killed process left; give how many."""
        removed = 0
        oldest = time.time() - older_than_s
        with self._explained(""):
            for path in _files(self._root):
                if path.name.startswith(_TEMPORARY) and path.stat().st_mtime <= oldest:
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed


def _files(folder: Path) -> Iterator[Path]:
    """Walk a tree in order; only one folder's names are in memory at a time on each level."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        yield folder
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)


def _make_folders(folder: Path) -> None:
    """Make a folder whose name, and its parents' names, survive a power cut."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise Unavailable(f"{folder} is a file where the blob store needs a folder: move it away") from None
        return
    _sync_folder(folder.parent)


def _write_durably(path: Path, data: bytes) -> None:
    # 0644 whatever the umask: a server under another user serves what this one wrote.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, 0o644)
        file.write(data)
        file.flush()
        os.fsync(handle)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class RemoteBlobs(BlobStore):
    """Blobs in an object store, which shows a key's new content at once or not at all.

    On a remote file system that is none (sftp, smb) a crash can leave half a blob; `phosphene verify` finds it.
    """

    def __init__(self, url: str) -> None:
        super().__init__(_without_password(url))
        protocol = url.partition("://")[0]
        try:
            self._files, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            remedy = "pip install 'phosphene[s3]'" if protocol in ("s3", "s3a") else str(error)
            msg = f"blobs at {protocol}:// need a package that is not installed: {remedy}"
            raise InvalidSettings(msg) from error
        except ValueError as error:
            msg = f"PHOSPHENE_BLOB_URL {self.name} can't be opened: {error}"
            raise InvalidSettings(msg) from error
        self._root = str(root).rstrip("/")
        self._has_folders = protocol not in _OBJECT_STORES

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        if self._holds(path, data):
            return
        if self._has_folders:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            self._files.pipe_file(path, data)
        except FileNotFoundError as error:
            msg = f"the blob store {self.name} does not exist: make the bucket first"
            raise Unavailable(msg) from error

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            found: dict[str, Any] = self._files.info(path)
        except FileNotFoundError:
            return False
        if found.get("size") != len(data):
            return False
        etag = str(found.get("ETag", "")).strip('"')
        if etag:
            return etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
        return bool(self._files.cat_file(path) == data)

    def _get(self, key: str) -> bytes:
        return bytes(self._files.cat_file(self._path(key)))

    def _exists(self, key: str) -> bool:
        return bool(self._files.isfile(self._path(key)))

    def _delete(self, key: str) -> None:
        self._files.rm_file(self._path(key))

    def _keys(self, prefix: str) -> Iterator[str]:
        start = self._path(prefix) if prefix else self._root
        # An object store finds by the letters of the prefix; ours means whole parts of the key.
        for path in sorted(self._files.find(start)):
            key = str(path)[len(self._root) + 1 :]
            if key == prefix or not prefix or key.startswith(prefix + "/"):
                yield key


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()
