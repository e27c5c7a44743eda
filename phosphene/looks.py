"""How alike two pictures look, from 32 x 32 pixels of each: also mirrored, or with an edge cut off.

A look is what the perceptual hash is made from, the whole picture in 32 x 32 grey levels, and its colours in 8 x 8. It
is kept whole, 1.1 KB a picture, since a hash can't be mirrored or cut afterwards, and pixels can.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from phosphene.oklab import to_oklab
from phosphene.types import Float32, Pixels

SIDE = 32
COLOUR_SIDE = 8
_GREY_BYTES = SIDE * SIDE
LOOK_BYTES = _GREY_BYTES + 2 * COLOUR_SIDE**2
BANDS = 4  # of 16 bits of a hash: two hashes that differ in at most 3 bits share one

Grey = NDArray[np.uint8]  # (n, 32, 32)
_HUE_SCALE = 300  # int8 of OKLab a and b, which lie within -0.4..0.4
_HUELESS = 0.02  # OKLab chroma that nobody sees

# What may have been cut off: 5 and 10 % of each side of the picture, from the one edge, the other, or both.
_CUTS = ((0.95, (0.0, 0.025, 0.05)), (0.9, (0.0, 0.05, 0.1)))


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """Looks of n pictures: grey (n, 32, 32) uint8; hues (n, 8, 8, 2) float32, OKLab a and b."""

    grey: Grey
    hues: Float32

    @classmethod
    def of(cls, stored: Sequence[bytes]) -> Looks:
        """Read looks as they are kept. Raises ValueError where one has another length."""
        rows = np.frombuffer(b"".join(stored), dtype=np.uint8).reshape(len(stored), LOOK_BYTES)
        hues = rows[:, _GREY_BYTES:].view(np.int8).reshape(-1, COLOUR_SIDE, COLOUR_SIDE, 2)
        return cls(rows[:, :_GREY_BYTES].reshape(-1, SIDE, SIDE), np.asarray(hues / _HUE_SCALE, dtype=np.float32))

    def __getitem__(self, places: NDArray[np.intp]) -> Looks:
        """Take some of them, in this order."""
        return Looks(self.grey[places], self.hues[places])

    def mirrored(self) -> Looks:
        """Turn left and right round."""
        return Looks(np.ascontiguousarray(self.grey[:, :, ::-1]), self.hues[:, :, ::-1])


def stored_look(grey: Grey, colours: Pixels) -> bytes:
    """Write the look of one picture from its grey (32, 32) and its colours (8, 8, 3) sRGB."""
    hues = np.clip(np.rint(to_oklab(colours)[..., 1:] * _HUE_SCALE), -127, 127).astype(np.int8)
    return grey.tobytes() + hues.tobytes()


def dct_matrix(rows: int, columns: int) -> NDArray[np.float64]:
    """Give the lowest frequencies of the type-2 discrete cosine transform: (rows, columns)."""
    frequency = np.arange(rows)[:, None]
    position = np.arange(columns)[None, :]
    return np.asarray(2 * np.cos(np.pi * frequency * (2 * position + 1) / (2 * columns)), dtype=np.float64)


_DCT = dct_matrix(8, SIDE)


def hashes_of(grey: Grey) -> NDArray[np.uint8]:
    """Hash what pictures look like to 64 bits: (n, 32, 32) to (n, 8) uint8; look-alikes differ in few bits.

    The DCT hash of https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html, bit for bit as the
    library ImageHash computes it, which needs scipy (that would take each decoder 0.5 s and 30 MB).
    """
    frequencies = (_DCT @ grey.astype(np.float64) @ _DCT.T).reshape(len(grey), 64)
    return np.packbits(frequencies > np.median(frequencies, axis=1, keepdims=True), axis=1)


def hash_of(look: bytes) -> str:
    """Write the hash of one look as 16 hex digits."""
    digits: str = hashes_of(Looks.of([look]).grey)[0].tobytes().hex()
    return digits


def bands_of(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Give the keys of the buckets that hashes (n, 8) lie in: (n, BANDS), each key of one band only."""
    values = hashes.reshape(len(hashes), BANDS, 2).astype(np.int64)
    return (np.arange(BANDS) << 16) | (values[:, :, 0] << 8) | values[:, :, 1]


def bits_apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the bits in which hashes (n, 8) differ: (n,)."""
    return np.asarray(np.bitwise_count(one ^ other).sum(axis=1), dtype=np.int64)


def likeness(one: Grey, other: Grey) -> tuple[Float32, Float32]:
    """Correlate pairs of looks (n, 32, 32), as they are or with 5 or 10 % cut off either: (n,), -1..1; and see where.

    Correlation leaves out brightness and contrast. Looks without any detail are alike to nothing: 0. The second (n,) is
    how much of what differs lies in one place, 0..1: in four of 64 squares. Compressing, cutting and marking change a
    picture all over; a plus instead of a minus in the same lens is another picture.
    """
    first, apart = _cut_correlation(one, other)
    second, apart_too = _cut_correlation(other, one)
    apart = np.where((second > first)[:, None], apart_too, apart)
    squares = (apart.reshape(-1, _SQUARES, SIDE // _SQUARES, _SQUARES, SIDE // _SQUARES) ** 2).sum(axis=(2, 4))
    squares = np.sort(squares.reshape(len(squares), -1), axis=1)
    in_one_place = squares[:, -_ONE_PLACE:].sum(axis=1) / (squares.sum(axis=1) + _NO_DIFFERENCE)
    return np.maximum(first, second), np.asarray(in_one_place, dtype=np.float32)


_SQUARES = 8  # a side
_ONE_PLACE = 4
_NO_DIFFERENCE = 1e-4  # of looks of length 1, squared


def recoloured(one: Looks, other: Looks) -> Float32:
    """Tell how far the colours of pairs differ, as a share of what colour there is: (n,); 0 the same, 1 all of it."""
    apart = np.linalg.norm(one.hues - other.hues, axis=-1).sum(axis=(1, 2))
    there = np.maximum(np.linalg.norm(one.hues, axis=-1), np.linalg.norm(other.hues, axis=-1)).sum(axis=(1, 2))
    return np.asarray(apart / (there + _HUELESS * COLOUR_SIDE**2), dtype=np.float32)


def _cut_correlation(whole: Grey, cut: Grey) -> tuple[Float32, Float32]:
    """Give the best correlation of `cut` with any cut of `whole`: (n,), and what differs then: (n, 1024)."""
    flat = _normalised(_smooth(cut.astype(np.float32)))
    best = np.full(len(whole), -1.0, dtype=np.float32)
    apart = np.zeros_like(flat)
    source = whole.astype(np.float32)
    for down, across in _resamplings():
        tried = _normalised(_smooth(np.asarray(down @ source @ across.T, dtype=np.float32)))
        found = np.einsum("ni,ni->n", tried, flat)
        better = found > best
        best[better] = found[better]
        apart[better] = (tried - flat)[better]
    return best, apart


def _normalised(looks: Float32) -> Float32:
    flat = looks.reshape(*looks.shape[:-2], _GREY_BYTES)
    flat = flat - flat.mean(axis=-1, keepdims=True)
    norms = np.linalg.norm(flat, axis=-1, keepdims=True)
    return np.where(norms > SIDE, flat / np.maximum(norms, 1e-6), np.float32(0))  # below: one grey level or so


def _smooth(looks: Float32) -> Float32:
    """Blur by (1 2 1) / 4 both ways, so that cuts between the tried ones correlate too."""
    kernel = _smoothing()
    return np.asarray(kernel @ looks @ kernel, dtype=np.float32)


@lru_cache(maxsize=1)
def _smoothing() -> Float32:
    matrix = np.eye(SIDE) / 2 + np.eye(SIDE, k=1) / 4 + np.eye(SIDE, k=-1) / 4
    matrix[0, 0] = matrix[-1, -1] = 3 / 4
    return matrix.astype(np.float32)


@lru_cache(maxsize=1)
def _resamplings() -> tuple[tuple[Float32, Float32], ...]:
    """Make the matrices that cut a look and bring the rest back to its size: for rows, for columns."""
    pairs = [(_resampling(0.0, 1.0), _resampling(0.0, 1.0))]
    for kept, starts in _CUTS:
        matrices = [_resampling(start, kept) for start in starts]
        pairs.extend(itertools.product(matrices, matrices))
    return tuple(pairs)


def _resampling(start: float, kept: float) -> Float32:
    """Sample `kept` of a line of SIDE pixels from `start` on, both of its length, linearly: (SIDE, SIDE)."""
    places = np.clip((start + kept * (np.arange(SIDE) + 0.5) / SIDE) * SIDE - 0.5, 0, SIDE - 1)
    left = np.minimum(places.astype(int), SIDE - 2)
    matrix = np.zeros((SIDE, SIDE), dtype=np.float32)
    matrix[np.arange(SIDE), left] = 1 - (places - left)
    matrix[np.arange(SIDE), left + 1] = places - left
    return matrix
