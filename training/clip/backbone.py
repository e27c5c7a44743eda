"""The packaged ImageNet backbone: loaded into open_clip's image tower, and kept aside as a teacher."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.clip.imagenet import class_weights

if TYPE_CHECKING:
    import open_clip

    from training.clip.workspace import Workspace

FEATURES = 1280


def load_backbone(model: open_clip.CLIP, workspace: Workspace) -> None:
    """Copy the packaged weights into the image tower; both list their tensors in the same order."""
    packaged = torch.load(workspace.backbone, map_location="cpu", weights_only=True)
    source = [tensor for name, tensor in packaged.items() if "num_batches" not in name]
    trunk = model.visual.trunk
    state = trunk.state_dict()
    names = [name for name in state if "num_batches" not in name]
    for name, tensor in zip(names, source[: len(names)], strict=True):
        if state[name].shape != tensor.shape:
            message = f"the packaged backbone does not fit at {name}: {tuple(tensor.shape)}"
            raise ValueError(message)
        state[name] = tensor
    trunk.load_state_dict(state)


class SharedBackbone(nn.Module):
    """A frozen lower half shared by the student above it and the frozen teacher above it.

    Edges and textures serve drawings as well as photographs, so the lower blocks stay as they are; that also halves
    the cost of a step. Batch norm keeps ImageNet's statistics throughout: those of drawings on white would ruin
    photographs.
    """

    def __init__(self, model: open_clip.CLIP, workspace: Workspace, *, frozen_blocks: int) -> None:
        super().__init__()
        trunk = model.visual.trunk.eval()
        self.project = model.visual.head
        self.frozen_blocks = frozen_blocks
        teacher = copy.deepcopy(trunk).requires_grad_(requires_grad=False).eval()
        teacher.load_state_dict(build_reference(workspace))
        self.trunk: Any = fold_batch_norms(trunk)  # timm's attributes are not typed
        self.teacher: Any = fold_batch_norms(teacher)
        self.register_buffer("classes", functional.normalize(class_weights(workspace), dim=1), persistent=False)
        for frozen in (trunk.conv_stem, trunk.bn1, *trunk.blocks[:frozen_blocks]):
            frozen.requires_grad_(requires_grad=False)

    def trainable(self) -> list[nn.Parameter]:
        """Parameters of the upper blocks, without the projection."""
        return [parameter for parameter in self.trunk.parameters() if parameter.requires_grad]

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, side, side) float32 -> student and teacher features, (n, FEATURES) float32 each.

        What is frozen runs in bfloat16; where gradients flow, float32 is faster on a CPU.
        """
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            shared = self.trunk.bn1(self.trunk.conv_stem(pictures))
            for block in self.trunk.blocks[: self.frozen_blocks]:
                shared = block(shared)
            teacher = self._upper(self.teacher, shared).float()
        return self._upper(self.trunk, shared.float()), teacher

    def forgetting(self, student: Tensor, teacher: Tensor) -> Tensor:
        """How far the ImageNet class scores have turned away from the teacher's: mean of 1 - cosine, 0..2."""
        classes = cast("Tensor", self.classes)
        mean = teacher.mean(dim=0, keepdim=True)
        turned = functional.cosine_similarity((student - mean) @ classes.T, (teacher - mean) @ classes.T)
        return (1 - turned).mean()

    def _upper(self, trunk: nn.Module, shared: Tensor) -> Tensor:
        blocks = cast("nn.Sequential", trunk.blocks)
        for block in blocks[self.frozen_blocks :]:
            shared = block(shared)
        top = cast("nn.Module", trunk.bn2)(cast("nn.Module", trunk.conv_head)(shared))
        return cast("Tensor", top.mean(dim=(2, 3)))


class FoldedConvolution(nn.Module):
    """A convolution and the batch norm of fixed statistics behind it, as one convolution that shares their weights.

    A batch norm on its own costs as much as the convolution before it; folded, a step takes half the time.
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, pictures: Tensor) -> Tensor:
        """(n, channels in, h, w) -> (n, channels out, h', w') float32, before the activation."""
        mean, variance = cast("Tensor", self.norm.running_mean), cast("Tensor", self.norm.running_var)
        factor = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        weight = self.convolution.weight * factor[:, None, None, None]
        bias = self.norm.bias - mean * factor
        own = self.convolution
        return functional.conv2d(pictures, weight, bias, own.stride, own.padding, own.dilation, own.groups)


def fold_batch_norms(trunk: nn.Module) -> nn.Module:
    """Return a trunk that computes the same from the same parameters, with every batch norm folded."""
    shared: dict[int, object] = {id(tensor): tensor for tensor in (*trunk.parameters(), *trunk.buffers())}
    folded = copy.deepcopy(trunk, shared)
    for parent in list(folded.modules()):
        waiting: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                waiting = (name, child)
            elif isinstance(child, nn.BatchNorm2d) and waiting is not None:
                setattr(parent, waiting[0], FoldedConvolution(waiting[1], child))
                setattr(parent, name, getattr(child, "act", nn.Identity()))
                waiting = None
    return folded


def build_reference(workspace: Workspace) -> dict[str, Tensor]:
    """Return the state of an untouched trunk with the packaged weights."""
    from training.clip.model import build_model

    model = build_model()
    load_backbone(model, workspace)
    state: dict[str, Tensor] = model.visual.trunk.state_dict()
    return state


def blend_with_packaged(state: dict[str, Tensor], workspace: Workspace, *, kept: float) -> dict[str, Tensor]:
    """Keep only a part, 0..1, of what fine-tuning changed in the backbone: photographs gain, drawings lose nothing.

    Wortsman et al. 2022, 'Robust fine-tuning of zero-shot models' (arXiv 2109.01903).
    """
    packaged = {f"visual.trunk.{name}": tensor for name, tensor in build_reference(workspace).items()}
    blended = dict(state)
    for name, tensor in packaged.items():
        if tensor.is_floating_point():
            blended[name] = tensor.lerp(state[name], kept)
    return blended
