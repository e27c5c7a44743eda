"""How well near-duplicates are told in the demo catalogue, with planted variants whose source is known.

Ingests the demo catalogue and compares its pictures. Then plants variants of some of them, as many of each kind:
resized, recompressed, cropped by 5 %, mirrored, watermarked, colour-shifted; ingests these as anybody would and
compares them as they come in. The sources are of the half of the catalogue that the rule was not fitted on. Prints,
with 95 % bootstrap intervals over variants:

- recall: variants that are in one cluster with their source, of each kind and of all, and those that are not;
- precision: of the pairs in clusters that hold a variant, those of one source, and the others. A picture that was in a
  cluster with the source before anything was planted is neither: whether these are one drawing nobody has told.

    python -m benchmarks.duplicates [--variants 300] [--seed 11]
"""

from __future__ import annotations

import argparse
import io
import random
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path
from uuid import UUID

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from indexer.duplicates import compare_waiting
from indexer.pipeline import ingest
from indexer.progress import SilentProgress
from phosphene.assemble import Engine, open_engine
from phosphene.nomatch.curves import Interval, bootstrap
from phosphene.settings import load_settings
from phosphene.types import DEFAULT_TENANT as TENANT
from phosphene.types import AssetId

PAGE = 500
Clusters = dict[AssetId, UUID]


def resized(image: Image.Image, chance: random.Random) -> Image.Image:
    """Make it 0.4 to 1.4 times as large."""
    share = chance.choice((0.4, 0.5, 0.6, 0.75, 1.4))
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(size, Image.Resampling.BICUBIC)


def cropped(image: Image.Image, chance: random.Random) -> Image.Image:
    """Cut off 5 % of width and height, somewhere at the edges."""
    wide, high = round(image.width * 0.05), round(image.height * 0.05)
    left, top = chance.randint(0, wide), chance.randint(0, high)
    return image.crop((left, top, image.width - wide + left, image.height - high + top))


def watermarked(image: Image.Image, _: random.Random) -> Image.Image:
    """Write across all of it, half transparent."""
    layer = Image.new("RGBA", image.size)
    draw, size = ImageDraw.Draw(layer), max(12, min(image.size) // 8)
    font = ImageFont.load_default(size)
    for row, top in enumerate(range(size // 2, image.height, size * 3)):
        for left in range(-size * 2 + row % 2 * size * 3, image.width, size * 6):
            draw.text((left, top), "© SAMPLE", fill=(128, 128, 128, 110), font=font)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def colour_shifted(image: Image.Image, chance: random.Random) -> Image.Image:
    """Turn the hue by 14 to 35 degrees, and change brightness and contrast by up to 15 %."""
    pixels = np.array(image.convert("HSV")).astype(np.int64)
    pixels[..., 0] = (pixels[..., 0] + chance.choice((-1, 1)) * chance.randint(10, 25)) % 256
    turned = Image.fromarray(pixels.astype(np.uint8), "HSV").convert("RGB")
    brighter = ImageEnhance.Brightness(turned).enhance(chance.uniform(0.85, 1.1))
    return ImageEnhance.Contrast(brighter).enhance(chance.uniform(0.85, 1.15))


KINDS: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "resized": resized,
    "recompressed": lambda image, _: image,
    "cropped": cropped,
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "watermarked": watermarked,
    "colour-shifted": colour_shifted,
}


@dataclass(frozen=True, slots=True)
class Planted:
    """A variant: where it lies, its kind, and the file name of its source."""

    path: Path
    kind: str
    source: str


def plant(catalogue: Path, folder: Path, *, count: int, seed: int) -> list[Planted]:
    """Write variants of pictures that the rule was not fitted on, as many of each kind."""
    chance = random.Random(seed)
    planted = []
    with tarfile.open(catalogue) as archive:
        pictures = sorted(name for name in archive.getnames() if not name.endswith(".json"))
        unseen = [name for name in pictures if sha256(name.encode()).digest()[0] % 2 == 0]
        for number, name in enumerate(chance.sample(unseen, min(count, len(unseen)))):
            kind = list(KINDS)[number % len(KINDS)]
            member = archive.extractfile(name)
            if member is None:
                raise FileNotFoundError(name)
            image = Image.open(io.BytesIO(member.read())).convert("RGB")
            path = folder / f"{kind} {Path(name).stem}.jpg"
            KINDS[kind](image, chance).save(path, quality=35 if kind == "recompressed" else 85)
            planted.append(Planted(path, kind, Path(name).name))
    return planted


def clusters(engine: Engine) -> Clusters:
    """Give the cluster of each picture that is in one."""
    found: Clusters = {}
    after: UUID | None = None
    while page := engine.catalog.duplicates.clusters(TENANT, after=after, limit=PAGE):
        after = page[-1].id
        for cluster in page:
            found |= dict.fromkeys(cluster.asset_ids, cluster.id)
    return found


def mates_of(asset: AssetId, found: Clusters) -> set[AssetId]:
    """Give the other pictures in an asset's cluster."""
    own = found.get(asset)
    return (
        {other for other, cluster in found.items() if cluster == own and other != asset} if own is not None else set()
    )


def report(planted: list[Planted], *, before: Clusters, after: Clusters, engine: Engine) -> None:
    """Print recall and precision, and what was missed or joined wrongly."""
    ids = engine.catalog.assets_named(TENANT, {one.path.name for one in planted} | {one.source for one in planted})
    own = {one: next(iter(ids[one.path.name])) for one in planted}
    sources = {one: next(iter(ids[one.source])) for one in planted}
    source_of = {own[one]: sources[one] for one in planted}
    names = {id_: name for name, found in ids.items() for id_ in found}

    joined = {one: sources[one] in mates_of(own[one], after) for one in planted}
    for kind in KINDS:
        some = [joined[one] for one in planted if one.kind == kind]
        print(f"  {kind:15} {sum(some)} of {len(some)} with their source")
    print(f"recall    {_told(_share(np.array(list(joined.values()))))}")
    for one in (one for one in planted if not joined[one]):
        print(f"  missed: {one.path.name}")

    right: list[bool] = []
    groups: list[int] = []
    untold = 0
    for number, one in enumerate(planted):
        for other in sorted(mates_of(own[one], after)):
            if other in source_of and other < own[one]:
                continue  # a pair of two variants counts once
            if source_of.get(other, other) == sources[one]:
                right.append(True)
            elif source_of.get(other, other) in mates_of(sources[one], before):
                untold += 1
                continue
            else:
                right.append(False)
                said = names.get(other) or engine.catalog.asset(TENANT, other).title
                print(f"  joined wrongly: {one.path.name} and {said}")
            groups.append(number)
    print(f"precision {_told(_share(np.array(right), np.array(groups)))} of {len(right)} pairs with a variant")
    print(f"  {untold} more with pictures that were in a cluster with the source before")


def _share(right: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    return bootstrap(lambda rows: float(right[rows].mean()), np.arange(len(right)) if groups is None else groups)


def _told(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def main() -> None:
    """Ingest, plant, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    demo = files("phosphene") / "starter" / "demo" / "catalogue.tar"
    with tempfile.TemporaryDirectory() as folder, as_file(demo) as catalogue:
        (Path(folder) / "planted").mkdir()
        planted = plant(catalogue, Path(folder) / "planted", count=options.variants, seed=options.seed)
        settings = load_settings(data=Path(folder) / "data", model="starter", threads=1)
        with open_engine(settings, command="benchmark") as engine:
            found = []
            for source in (catalogue, Path(folder) / "planted"):
                ingest([str(source)], engine=engine, tenant=TENANT, progress=SilentProgress())
                compared = compare_waiting(engine=engine)
                found.append(clusters(engine))
                print(f"{compared:,} pictures compared, {len(set(found[-1].values())):,} clusters")
            report(planted, before=found[0], after=found[1], engine=engine)


if __name__ == "__main__":
    main()
