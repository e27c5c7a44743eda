"""How good imagined pictures are: for captions and from pictures of the demo catalogue, which were never trained on.

Draws, for --pictures titles of the catalogue, a picture of the title and a variation of its picture. The starter judges
them as it judges any picture (CLIP score: cosine of caption and picture). Prints, with 95 % intervals:

- the CLIP score of what was drawn for a caption beside those of the best hit in the catalogue, of the caption's own
  picture, of what the decoder draws from that picture's embedding, and of a random picture; how many of the captions
  have a drawn picture above the random one (asked for: 90 of 100), and above the average of the whole catalogue;
- how many variations find their source, its title or a keyword of it among the first 10 (asked for: 70 of 100), and how
  many random pictures would;
- the Fréchet distance in the starter's feature space between drawn pictures and as many others of the catalogue, beside
  that of two halves of the catalogue of the same size: it grows as samples shrink, so only equal sizes compare.

    python -m benchmarks.imagined [--generator starter] [--pictures 100] [--sheet docs/imagined.png]
"""

from __future__ import annotations

import argparse
import json
import tarfile
from dataclasses import dataclass
from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from phosphene.encoders import Encoder, load_encoder
from phosphene.images import fit
from phosphene.types import Pixels
from phosphene.unclip.loading import load_generator
from training.clip.evaluate import print_report
from training.clip.picture import Picture
from training.unclip.contact_sheet import draw_contact_sheet
from training.unclip.drawn import Drawn, score_captions, score_variations
from training.unclip.held_out import SIDE, HeldOut, embed_pictures

SPLITS = 20  # of the catalogue into halves
RESAMPLES = 1000
_BATCH = 64
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Member:
    """One picture of the catalogue with what it says of it."""

    image: Image.Image
    picture: Picture


def read_catalogue(path: Path) -> list[Member]:
    """Read the demo catalogue's pictures and words."""
    with tarfile.open(path) as archive:
        names = sorted(name.removesuffix(".json") for name in archive.getnames() if name.endswith(".json"))
        return [_member(archive, name) for name in names]


def _member(archive: tarfile.TarFile, name: str) -> Member:
    said = json.loads(_read(archive, f"{name}.json"))
    picture = Picture(
        style="clip art",
        concept=said["title"],
        label=said["title"],
        keywords=tuple(said["keywords"]),
        categories=(said["category"],),
        source=name,
        licence=said["licence"],
        split="demo",
    )
    return Member(Image.open(BytesIO(_read(archive, f"{name}.webp"))).convert("RGB"), picture)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None:
        raise FileNotFoundError(f"{name} is not in the catalogue")
    return member.read()


def held_out(members: list[Member], encoder: Encoder) -> HeldOut:
    """Embed the pictures as an ingest does, and their titles."""
    captions = [member.picture.label.lower() for member in members]
    tiles = np.stack([_tile(member.image) for member in members])
    spec, images = encoder.space.pixels, []
    for start in range(0, len(members), _BATCH):
        some = members[start : start + _BATCH]
        images.append(encoder.encode_pixels(np.stack([fit(member.image, spec) for member in some])).unit().rows)
    pictures = [member.picture for member in members]
    texts = torch.from_numpy(encoder.encode_texts(captions).unit().rows)
    return HeldOut(pictures, tiles, torch.from_numpy(np.concatenate(images)), captions, texts)


def _tile(image: Image.Image) -> Pixels:
    """Draw a picture on a white square, for people to look at: (SIDE, SIDE, 3)."""
    return np.asarray(ImageOps.pad(image, (SIDE, SIDE), color="white"), dtype=np.uint8)


def score_against_catalogue(catalogue: HeldOut, drawn: Drawn, encoder: Encoder) -> dict[str, object]:
    """Compare the CLIP score of what was drawn for captions with the best that the catalogue has, and its average."""
    texts = catalogue.texts[drawn.rows]
    scores = (embed_pictures(drawn.from_captions, encoder) * texts).sum(dim=1)
    all_scores = texts @ catalogue.images.T
    others = all_scores.clone()
    for at, row in enumerate(drawn.rows):
        others[
            at, [other for other, caption in enumerate(catalogue.captions) if caption == catalogue.captions[row]]
        ] = -1
    best = all_scores.max(dim=1).values
    return {
        "clip_score_best_hit": mean_with_interval(best),
        "clip_score_best_hit_of_another_title": mean_with_interval(others.max(dim=1).values),
        "clip_score_average_picture": mean_with_interval(all_scores.mean(dim=1)),
        "above_best_hit_percent": mean_with_interval(100 * (scores > best).float(), digits=1),
        "above_average_picture_percent": mean_with_interval(100 * (scores > all_scores.mean(dim=1)).float(), digits=1),
    }


def score_distances(catalogue: HeldOut, drawn: Drawn, encoder: Encoder) -> dict[str, object]:
    """Give Fréchet distances of drawn pictures to others of the catalogue, and of the catalogue to itself."""
    real, n = catalogue.images.numpy().astype(np.float64), len(drawn.rows)
    others = np.setdiff1d(np.arange(len(real)), drawn.rows)
    captioned = embed_pictures(drawn.from_captions, encoder).numpy().astype(np.float64)
    varied = embed_pictures(drawn.from_pictures, encoder).numpy().astype(np.float64)
    chance = np.random.default_rng(0)
    distances: dict[str, list[float]] = {
        "drawn_from_captions": [],
        "drawn_from_true_embeddings": [],
        "true_pictures": [],
    }
    halves: list[float] = []
    for _ in range(SPLITS):
        shuffled = chance.permutation(others)
        sample = real[shuffled[:n]]
        for name, rows in zip(distances, (captioned, varied, real[drawn.rows]), strict=True):
            distances[name].append(frechet_distance(rows, sample))
        halves.append(frechet_distance(real[shuffled[n : 2 * n]], sample))
    told = {f"frechet_distance_{name}": _spread(some) for name, some in distances.items()}
    ratio = float(np.mean(distances["drawn_from_captions"]) / np.mean(halves))
    return {**told, "frechet_distance_of_halves": _spread(halves), "frechet_ratio_captions_to_halves": round(ratio, 2)}


def frechet_distance(a: Float64, b: Float64) -> float:
    """Squared Fréchet distance of two Gaussians with the means and covariances of a (n, d) and b (m, d).

    Heusel et al. 2017 (arXiv 1706.08500), equation 6. The trace of the square root of the product of covariances is
    the sum of the singular values of A B^T, A and B being centred and divided by the root of n - 1 and m - 1: no square
    root of a matrix, and exact with fewer pictures than dimensions.
    """
    gap = a.mean(axis=0) - b.mean(axis=0)
    spread_a, spread_b = (((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)) for rows in (a, b))
    common = float(np.linalg.svd(spread_a @ spread_b.T, compute_uv=False).sum())
    return float(gap @ gap + (spread_a**2).sum() + (spread_b**2).sum() - 2 * common)


def mean_with_interval(values: Tensor, *, digits: int = 3) -> list[float]:
    """Mean, and its 95 % interval, bootstrapped."""
    chance = np.random.default_rng(0)
    rows = values.numpy().astype(np.float64)
    means = [rows[chance.integers(0, len(rows), len(rows))].mean() for _ in range(RESAMPLES)]
    return [round(float(number), digits) for number in (rows.mean(), *np.percentile(means, [2.5, 97.5]))]


def _spread(values: list[float]) -> list[float]:
    """Mean over splits, and the middle 95 % of them."""
    return [round(float(number), 4) for number in (np.mean(values), *np.percentile(values, [2.5, 97.5]))]


def main() -> None:
    """Draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--generator", default="starter", help="the name or folder of a generator in the starter's space"
    )
    parser.add_argument("--pictures", type=int, default=100, help="captions drawn, and pictures varied")
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet here (PNG)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoder = load_encoder("starter", threads=1)
    generator = load_generator(options.generator, encoder=encoder, device="cpu")
    with as_file(files("phosphene") / "starter" / "demo" / "catalogue.tar") as path:
        catalogue = held_out(read_catalogue(path), encoder)
    drawn = Drawn.of(catalogue, catalogue.sample(options.pictures), generator)
    card = generator.card
    print(f"{card.model}, {card.sizes[0]} pixels, {len(catalogue.pictures):,} pictures in the catalogue")
    print_report(score_captions(catalogue, drawn, encoder))
    print_report(score_against_catalogue(catalogue, drawn, encoder))
    print_report(score_variations(catalogue, drawn, encoder))
    print_report(score_distances(catalogue, drawn, encoder))
    if options.sheet:
        draw_contact_sheet(catalogue, drawn, options.sheet)


if __name__ == "__main__":
    main()
