"""Which weights a generator has, told in milliseconds: whether a stored picture is still what would be drawn.

Reading gigabytes to hash them is a worker's business (`Generator.weights_sha256`, once for each process). Who answers
requests looks at names, sizes and, of large files, some thousand places: weights that were trained on differ in nearly
all of them. A change that touches none of these places is noticed when a worker has drawn with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from phosphene.errors import ModelError, ModelNotFound
from phosphene.types import Sha256
from phosphene.unclip.components import MODEL_INDEX, find_folder, read_json
from phosphene.unclip.loading import KANDINSKY_PRIOR, KARLO, STARTER, STARTER_FOLDER

_WHOLE_BYTES = 4 << 20  # files up to this size are read whole
_PLACES = 1024  # looked at in a larger one
_PLACE_BYTES = 4096
_PATTERNS = ("*.json", "*/*.json", "*/*.safetensors")
_PRIOR_OF = {"KandinskyV22Pipeline": KANDINSKY_PRIOR, "StableUnCLIPImg2ImgPipeline": KARLO}

_Seen = tuple[tuple[str, int, int], ...]  # path, bytes, ns of the last change


def folders_of(generator: str, prior: str | None) -> list[Path]:
    """Find what `load_generator` would read. Raises ModelNotFound, ModelError."""
    if generator.strip() == STARTER:
        if not (STARTER_FOLDER / "unclip.json").is_file():
            raise ModelNotFound(
                f"the starter's generator has no weights here ({STARTER_FOLDER}): name another with PHOSPHENE_GENERATOR"
            )
        return [STARTER_FOLDER]
    folder = find_folder(generator)
    index = folder / MODEL_INDEX
    if not index.is_file():
        return [folder]
    usual = _PRIOR_OF.get(str(read_json(index).get("_class_name")))
    return [folder] if usual is None else [folder, find_folder(prior or usual)]


class Weights:
    """Tells which weights some folders hold, and remembers it while their files stay as they are."""

    def __init__(self) -> None:
        self._known: dict[_Seen, Sha256] = {}

    def of(self, folders: Sequence[Path]) -> Sha256:
        """Hash what is looked at. Raises ModelError where a file can't be read."""
        files = [(folder, path) for folder in folders for path in _files(folder)]
        try:
            seen = tuple((str(path), (about := path.stat()).st_size, about.st_mtime_ns) for _, path in files)
            if seen not in self._known:
                digest = hashlib.sha256()
                for folder, path in files:
                    digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
                    _look_at(path, digest)
                self._known[seen] = Sha256(digest.hexdigest())
        except OSError as error:
            raise ModelError(f"the generator's files can't be read: {error}") from error
        return self._known[seen]


def _files(folder: Path) -> list[Path]:
    return sorted({path for pattern in _PATTERNS for path in folder.glob(pattern) if path.is_file()})


def _look_at(path: Path, digest: hashlib._Hash) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            digest.update(file.read())
            return
        for place in range(_PLACES):
            file.seek(place * (size - _PLACE_BYTES) // (_PLACES - 1))
            digest.update(file.read(_PLACE_BYTES))
