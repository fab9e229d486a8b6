"""Published weights that `python -m weights_converter download NAME` fetches and converts.

Accuracies are those that torchvision publishes: per cent of ImageNet's 50,000 validation images, one centre crop of 224
pixels each. The same network was trained twice: "V1" as in the paper, "V2" in 2021 with longer and stronger training
(600 epochs, augmentation, label smoothing), which makes a better classifier and not always better features. The weights
come under torchvision's licence; ImageNet, from which they were learned, has terms of its own.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, NamedTuple

from tinyresnet.images import IMAGENET, Preprocessing


class Published(NamedTuple):
    """A file of weights, and what is known of it."""

    file: str
    address: str
    sha256: str  # or its first digits, as they stand in the file's name
    mebibytes: float  # of 2^20 bytes
    licence: str
    top1: float  # per cent
    top5: float
    source: str  # of size and accuracy
    preprocessing: Preprocessing  # what an image went through

    @property
    def limit(self) -> int:
        """Bytes that are surely enough; the published size is rounded."""
        return int((self.mebibytes + 1) * 2**20)


def torchvision(file: str, weights: str, mebibytes: float, top1: float, top5: float, *, sha256: str = "",
                preprocessing: Preprocessing = IMAGENET) -> Published:
    """A file of download.pytorch.org, whose name ends in the first 8 digits of its hash."""
    sha256 = sha256 or file.removesuffix(".pth").rpartition("-")[2]
    return Published(file, f"https://download.pytorch.org/models/{file}", sha256, mebibytes, "BSD-3-Clause", top1, top5,
                     f"torchvision {weights}", preprocessing)


CATALOGUE = {
    "resnet18": torchvision(
        "resnet18-f37072fd.pth", "ResNet18_Weights.IMAGENET1K_V1", 44.661, 69.758, 89.078,
        sha256="f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"),
    "resnet34": torchvision(
        "resnet34-b627a593.pth", "ResNet34_Weights.IMAGENET1K_V1", 83.275, 73.314, 91.420,
        sha256="b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f"),
    "resnet50": torchvision(
        "resnet50-0676ba61.pth", "ResNet50_Weights.IMAGENET1K_V1", 97.781, 76.130, 92.862,
        sha256="0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
    "resnet50_v2": torchvision(
        "resnet50-11ad3fa6.pth", "ResNet50_Weights.IMAGENET1K_V2", 97.790, 80.858, 95.434,
        sha256="11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        preprocessing=replace(IMAGENET, resize=232)),
    "resnet101": torchvision("resnet101-63fe2227.pth", "ResNet101_Weights.IMAGENET1K_V1", 170.511, 77.374, 93.546),
    "resnet152": torchvision("resnet152-394f9c45.pth", "ResNet152_Weights.IMAGENET1K_V1", 230.434, 78.312, 94.046),
}


def published(name: str) -> Published:
    """The entry of this name. Raises ValueError with the names that there are."""
    if name not in CATALOGUE:
        raise ValueError(f"nothing is called {name!r}; there are {', '.join(CATALOGUE)} and head_ct")
    return CATALOGUE[name]


def of_hash(sha256: str) -> Published | None:
    """The entry of the file with this SHA-256, whatever it is called."""
    return next((entry for entry in CATALOGUE.values() if sha256.startswith(entry.sha256)), None)


def as_rows() -> list[dict[str, Any]]:
    """The catalogue in JSON's types."""
    return [{"name": name, **entry._asdict(), "preprocessing": asdict(entry.preprocessing)}
            for name, entry in CATALOGUE.items()]


def as_table() -> str:
    """The catalogue as lines for a terminal."""
    lines = [f"{'name':12}  {'licence':14}  {'size':>9}  {'top-1':>6}  {'top-5':>6}"]
    for name, entry in CATALOGUE.items():
        lines.append(f"{name:12}  {entry.licence:14}  {entry.mebibytes:5.1f} MiB  {entry.top1:6.3f}  {entry.top5:6.3f}")
    return "\n".join(lines)
