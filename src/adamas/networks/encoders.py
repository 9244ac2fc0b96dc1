"""CNNs that turn frames into vectors."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from adamas.networks.blocks import ConditionedResBlock, ResBlock, conv3x3, downsample, patches


class ConditionedEncoder(nn.Module):
    """float (B, in_channels, H, W) and condition (B, D) -> float (B, features).

    With `published` it is DIAMOND's: the last two blocks attend, and no activation follows them, so that features keep
    their sign.
    """

    def __init__(
        self,
        in_channels: int,
        condition_channels: int,
        channels: list[int],
        depths: list[int],
        patch: int,
        frame_size: int,
        published: bool,
    ) -> None:
        super().__init__()
        self.patch, self.published = patch, published
        self.conv_in = conv3x3(in_channels * patch**2, channels[0])
        self.layers = nn.ModuleList()
        size, finer = frame_size // patch, channels[0]
        for level, (width, depth) in enumerate(zip(channels, depths, strict=True)):
            if level > 0:
                self.layers.append(downsample(finer))
                size = (size + 1) // 2
            ins = [finer] + [width] * (depth - 1)
            self.layers.extend(ConditionedResBlock(i, width, condition_channels) for i in ins)
            finer = width
        self.layers.extend(ConditionedResBlock(finer, finer, condition_channels, published) for _ in range(2))
        self.features = finer * size**2

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.conv_in(patches(x, self.patch))
        for layer in self.layers:
            x = layer(x, condition) if isinstance(layer, ConditionedResBlock) else layer(x)
        return (x if self.published else F.silu(x)).flatten(1)  # (B, C*H*W)


class FrameEncoder(nn.Module):
    """float (B, in_channels, H, W) -> float (B, features); each level halves the frame.

    With `published` no activation follows the last level, as in DIAMOND.
    """

    def __init__(self, in_channels: int, channels: list[int], patch: int, frame_size: int, published: bool) -> None:
        super().__init__()
        self.patch, self.published = patch, published
        ins = [channels[0], *channels[:-1]]
        levels = [nn.Sequential(ResBlock(i, o), nn.MaxPool2d(2)) for i, o in zip(ins, channels, strict=True)]
        self.layers = nn.Sequential(conv3x3(in_channels * patch**2, channels[0]), *levels)
        self.features = channels[-1] * (frame_size // patch // 2 ** len(channels)) ** 2

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(patches(x, self.patch))
        return (x if self.published else F.silu(x)).flatten(1)  # (B, C*H*W)


class NatureEncoder(nn.Sequential):
    """float (B, in_channels, 84, 84) -> float (B, 512): all but the last layer of DQN (Mnih et al. 2015).

    Weights start as those of He et al. (2015), which keep the size of what they read; those of torch's default shrink it fifty-fold, and
    the gradients with it.
    """

    features = 512

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, self.features),
            nn.ReLU(),
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)
