"""Inception v3, whose features are those of the FID (Heusel et al. 2017), from weights that the user has on disk.

It learned from photographs at 299 x 299: what its distances mean for an Atari frame, nobody knows. Nothing is downloaded.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import Tensor, nn

from adamas.utils.errors import UserError

NAME = "inception-v3"


class Inception(nn.Module):
    """uint8 (B, H, W) -> float32 (B, D), also under autocast: grey as three equal colours.

    Args:
        network: uint8 (B, 3, H, W) -> float32 (B, D).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        with torch.autocast(frames.device.type, enabled=False):
            return self.network(frames[:, None].expand(-1, 3, -1, -1))


def load_inception(weights: Path) -> Inception:
    """The network of torchmetrics' FrechetInceptionDistance, D = 2048.

    Args:
        weights: a state dict as torch-fidelity publishes it, weights-inception-2015-12-05-6726825d.pth.
    """
    try:  # before torch-fidelity reads it, which runs whatever code a pickle holds
        torch.load(weights, weights_only=True, map_location="cpu")
    except Exception as error:  # what torch raises for a damaged file is anyone's guess
        raise UserError(f"Inception weights {weights} cannot be read: {type(error).__name__}") from error
    try:
        importlib.import_module("torch_fidelity")
        fid = importlib.import_module("torchmetrics.image.fid")
    except (ImportError, OSError, RuntimeError) as error:  # the last two: a torchvision built for another torch
        raise UserError(
            "Inception needs torchmetrics, torch-fidelity and a torchvision built for this torch "
            f"({' '.join(str(error).split())}): pip install -e '.[inception]'"
        ) from error
    try:
        return Inception(fid.FrechetInceptionDistance(feature_extractor_weights_path=str(weights)).inception)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise UserError(f"{weights} does not hold the weights of torch-fidelity's Inception v3") from error
