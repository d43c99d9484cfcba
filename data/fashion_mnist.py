"""Fashion-MNIST: pictures of clothes in MNIST's format, downloaded once and checked.

Xiao, Rasul, Vollgraf, arXiv:1708.07747; MIT licence. 60,000 pictures to learn from and 10,000 to
test on, 28 x 28 pixels, ten classes of as many pictures each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from labctl import checks
from labctl.data.mnist import LabelledImages, fetch_files, load_images

CLASS_NAMES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
FASHION_MNIST_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
FILES_SHA256: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "train": {
            "train-images-idx3-ubyte.gz": (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            ),
            "train-labels-idx1-ubyte.gz": (
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            ),
        },
        "test": {
            "t10k-images-idx3-ubyte.gz": (
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
            ),
        },
    }
)


def fetch_fashion_mnist(
    part: Literal["test", "train"],
    folder: Path | None = None,
    mirrors: Sequence[str] = FASHION_MNIST_MIRRORS,
) -> LabelledImages:
    """Return 60,000 pictures to learn from or 10,000 to test on, each of 784 pixels.

    folder: where to keep them; default is the user's cache folder. mirrors: base addresses, tried
    in turn; one may speak plain HTTP, because what differs from the checksums is refused. Raises
    UsageError when pooch is not installed, DatasetError when no mirror delivers.
    """
    checks.one_of("part", part, FILES_SHA256)
    return load_images(fetch_files("fashion-mnist", FILES_SHA256[part], mirrors, folder), part)
