"""The 1,000 ImageNet classes as words: the photographs that the packaged backbone has seen and we have not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from training.clip.wordnet import Synset, read_synsets

if TYPE_CHECKING:
    from torch import Tensor

    from training.clip.workspace import Workspace

CLASSES = 1000
_MAX_HYPERNYMS = 7
# From here upwards WordNet says nothing that anybody would search for.
_TOO_GENERAL = {
    "artifact",
    "whole",
    "object",
    "physical entity",
    "entity",
    "organism",
    "living thing",
    "instrumentality",
    "matter",
    "substance",
    "causal agent",
    "abstraction",
    "chordate",
    "vertebrate",
    "placental",
    "invertebrate",
    "arthropod",
    "commodity",
    "solid",
    "food",
    "way",
    "relation",
    "attribute",
    "implement",
    "covering",
    "consumer goods",
    "conveyance",
    "working dog",
    "instrument",
    "structure",
    "natural object",
    "plant organ",
    "plant part",
    "reproductive structure",
}


@dataclass(frozen=True)
class PhotoClass:
    """One class: its own names first, then what it is a kind of, nearest first."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]

    @property
    def weighted_texts(self) -> list[tuple[str, float]]:
        """Texts with the share of the class's training target each gets."""
        texts = [(self.names[0], 1.0), (f"a photo of a {self.names[0]}", 0.5)]
        texts += [(name, 0.4 / len(self.names[1:])) for name in self.names[1:]]
        texts += [(kind, 1.2 / len(self.kinds)) for kind in self.kinds]
        return texts


def read_photo_classes(workspace: Workspace) -> list[PhotoClass]:
    """Return the classes in the order of the classifier's rows."""
    names = json.loads(workspace.imagenet_names.read_text(encoding="utf-8"))
    synset_ids = json.loads(workspace.imagenet_synsets.read_text(encoding="utf-8"))
    synsets = {synset.offset: synset for synset in read_synsets(workspace.wordnet, "noun")}
    classes = []
    for index in range(CLASSES):
        synset = synsets.get(str(synset_ids[str(index)]).lstrip("n"))
        own = [names[index].lower(), *(synset.readable_lemmas if synset else ())]
        kinds = _kinds(synset, synsets) if synset else ()
        classes.append(PhotoClass(tuple(dict.fromkeys(own)), kinds))
    return classes


def class_weights(workspace: Workspace) -> Tensor:
    """Return the rows of the packaged classifier: (1000, 1280) float32, one prototype a class."""
    state = torch.load(workspace.backbone, map_location="cpu", weights_only=True)
    matrices = [tensor for tensor in state.values() if tensor.ndim == 2]
    rows: Tensor = matrices[-1].float()
    return rows


def _kinds(synset: Synset, synsets: dict[str, Synset]) -> tuple[str, ...]:
    """Take the first word of each meaning above, breadth first, until words become too general."""
    kinds: dict[str, None] = {}
    queue = list(synset.hypernyms)
    while queue and len(kinds) < _MAX_HYPERNYMS:
        above = synsets[queue.pop(0)]
        if above.lemmas[0] in _TOO_GENERAL:
            continue
        kinds.update(dict.fromkeys(above.readable_lemmas[:1]))
        queue.extend(above.hypernyms)
    return tuple(kinds)
