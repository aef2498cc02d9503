"""Network architectures by name, and which of their layers are worth a look."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer


@dataclass(frozen=True)
class Architecture:
    """What the workbook knows about a family of networks before any is built.

    Layers are dotted names, as in ``dict(network.named_modules())``.
    """

    # Of the number of classes, and whether the stem is to be small: a 3x3 convolution of stride 1
    # without pooling, for images of up to 64 x 64.
    build: Callable[[int, bool], nn.Module]
    first: str  # convolution
    deeper: str  # a convolution about half way
    last: str  # convolution
    stages: tuple[str, ...]  # layers at growing depth, the last one with a map at the end
    head: str  # the final linear (or 1x1 convolution) layer
    sizes: tuple[int, ...] = ()  # the input sizes that it can be built for; any if empty
    reshape: Callable[[Tensor], Tensor] | None = None  # of a stage's tokens into maps [N, C, h, w]

    @property
    def target(self) -> str:
        """The layer whose output the CAM methods explain: the last stage."""
        return self.stages[-1]


def tokens_to_map(tokens: Tensor) -> Tensor:
    """Turn tokens [N, 1 + h*w, C] of a square image into a map [N, C, h, w], without the class."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)


def _shapes_vit(n_classes: int, _small_stem: bool) -> nn.Module:
    """Build a Vision Transformer of three layers with a convolutional stem (Xiao et al. 2021)."""
    return VisionTransformer(
        image_size=64, patch_size=8, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128,
        num_classes=n_classes,
        conv_stem_configs=[
            ConvStemConfig(width, 3, stride)
            for width, stride in ((24, 2), (48, 2), (48, 1), (96, 2), (96, 1))
        ],
    )  # fmt: skip


def _torchvision(
    constructor: Callable[..., nn.Module], shrink: Callable[[nn.Module], None] | None = None
) -> Callable[[int, bool], nn.Module]:
    def build(n_classes: int, small_stem: bool) -> nn.Module:
        network = constructor(num_classes=n_classes)
        if small_stem and shrink:
            shrink(network)
        return network

    return build


def _shrink_resnet(network: nn.Module) -> None:
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()


def _shrink_densenet(network: nn.Module) -> None:
    network.features.conv0 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.features.pool0 = nn.Identity()


def _shrink_mobilenet(network: nn.Module) -> None:
    # Two strides less: 32 x 32 images end at 4 x 4 instead of 1 x 1.
    network.features[0][0].stride = (1, 1)
    network.features[2].conv[1][0].stride = (1, 1)


def _shrink_squeezenet(network: nn.Module) -> None:
    network.features[0] = nn.Conv2d(3, 96, 3, padding=1)
    network.features[2] = nn.Identity()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A of the paper)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        before = self.new_channels // 2
        shortcut = F.pad(shortcut, (0, 0, 0, 0, before, self.new_channels - before))
        return F.relu(out + shortcut)


class CifarResNet(nn.Module):
    """The residual network for small images (He et al. 2016, section 4.2).

    Three stages of residual blocks, global average pooling, one linear layer. With the default
    widths and stem it has 6 * blocks + 2 layers: 3 blocks make ResNet-20, 9 make ResNet-56. Names
    and shapes of the weights are those of the public checkpoints.

    Args:
        blocks: residual blocks per stage.
        n_classes: number of logits.
        widths: channels of the three stages.
        stem: kernel size and stride of the first convolution.
    """

    def __init__(
        self, blocks: int, n_classes: int, widths: tuple[int, int, int] = (16, 32, 64),
        stem: tuple[int, int] = (3, 1),
    ) -> None:  # fmt: skip
        super().__init__()
        kernel, stride = stem
        self.conv1 = nn.Conv2d(3, widths[0], kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = self._stage(blocks, widths[0], widths[0], 1)
        self.layer2 = self._stage(blocks, widths[0], widths[1], 2)
        self.layer3 = self._stage(blocks, widths[1], widths[2], 2)
        self.linear = nn.Linear(widths[2], n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(blocks: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_channels, out_channels, stride)
        rest = (BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
        return nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images [N, 3, H, W] to logits [N, n_classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


_STAGES = ("layer1", "layer2", "layer3", "layer4")  # of a ResNet; small ones have three
_VIT_LAYER = "encoder.layers.encoder_layer_{}.ln_1"

# Build, first, deeper and last convolution, stages and head.
ARCHITECTURES: dict[str, Architecture] = {
    "shapes_net": Architecture(
        lambda k, _: CifarResNet(1, k, widths=(24, 48, 96), stem=(7, 2)),
        "conv1", "layer2.0.conv1", "layer3.0.conv2", _STAGES[:3], "linear"),
    "resnet20": Architecture(
        lambda k, _: CifarResNet(3, k),
        "conv1", "layer2.1.conv1", "layer3.2.conv2", _STAGES[:3], "linear"),
    "resnet56": Architecture(
        lambda k, _: CifarResNet(9, k),
        "conv1", "layer2.4.conv1", "layer3.8.conv2", _STAGES[:3], "linear"),
    "resnet18": Architecture(
        _torchvision(torchvision.models.resnet18, _shrink_resnet),
        "conv1", "layer2.1.conv2", "layer4.1.conv2", _STAGES, "fc"),
    "resnet50": Architecture(
        _torchvision(torchvision.models.resnet50, _shrink_resnet),
        "conv1", "layer2.3.conv2", "layer4.2.conv3", _STAGES, "fc"),
    "densenet121": Architecture(
        _torchvision(torchvision.models.densenet121, _shrink_densenet), "features.conv0",
        "features.denseblock2.denselayer12.conv2", "features.denseblock4.denselayer16.conv2",
        (*(f"features.denseblock{i}" for i in (1, 2, 3)), "features.norm5"), "classifier"),
    "mobilenet_v2": Architecture(
        _torchvision(torchvision.models.mobilenet_v2, _shrink_mobilenet),
        "features.0.0", "features.7.conv.2", "features.18.0",
        ("features.3", "features.6", "features.13", "features.18"), "classifier.1"),
    "squeezenet1_0": Architecture(
        _torchvision(torchvision.models.squeezenet1_0, _shrink_squeezenet),
        "features.0", "features.7.expand3x3", "features.12.expand3x3",
        ("features.3", "features.7", "features.10", "features.12"), "classifier.1"),
    "shapes_vit": Architecture(
        _shapes_vit, "conv_proj.conv_bn_relu_0.0", "conv_proj.conv_bn_relu_1.0",
        "conv_proj.conv_last", tuple(map(_VIT_LAYER.format, (0, 1, 2))), "heads.head",
        sizes=(64,), reshape=tokens_to_map),
    "vit_b_16": Architecture(
        _torchvision(torchvision.models.vit_b_16), "conv_proj", "conv_proj",
        "conv_proj", tuple(map(_VIT_LAYER.format, (2, 5, 8, 11))), "heads.head",
        sizes=(224,), reshape=tokens_to_map),
}  # fmt: skip
