"""Where the recipe reads pictures, and keeps what it computes and trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.clip.workspace import STARTER, Workspace

TARGET = STARTER / "unclip"


@dataclass(frozen=True)
class UnclipWorkspace:
    """A folder for one CLIP space: with other CLIP weights everything is made anew, in a folder of its own."""

    clip: Workspace  # the pictures, as the CLIP recipe rendered and split them; only read
    base: Path
    space: str  # id of the CLIP space

    @property
    def root(self) -> Path:
        """What belongs to this space."""
        return self.base / self.space

    @property
    def embedded_parts(self) -> Path:
        """Embeddings of a chunk of the pictures in each file."""
        return self.root / "embedded"

    @property
    def embeddings(self) -> Path:
        """What the starter sees in the training pictures and reads in their captions."""
        return self.root / "embeddings.npz"

    @property
    def prior(self) -> Path:
        """Averaged weights of the diffusion prior."""
        return self.root / "prior.safetensors"

    @property
    def autoregressive_prior(self) -> Path:
        """Averaged weights of the autoregressive prior; its tokens follow from the embeddings."""
        return self.root / "autoregressive_prior.safetensors"

    @property
    def decoder(self) -> Path:
        """Averaged weights of the decoder, half-way."""
        return self.root / "decoder.safetensors"

    @property
    def decoder_longer(self) -> Path:
        """Averaged weights of the decoder."""
        return self.root / "decoder_longer.safetensors"

    @property
    def super_resolution(self) -> Path:
        """Averaged weights of super-resolution."""
        return self.root / "super_resolution.safetensors"
