"""How fashion.pack was made: python tests/make_fashion.py ROOT, where ROOT holds Fashion-MNIST as torchvision lays it out.

500 training and 300 test images a class, those that `thin_out` takes with the literature's seed; 28×28 pixels, padded
with 2 black ones a side, averaged over 2×2 to 16×16."""
import sys

import torch
import torch.nn.functional as F

from ltnb.data import ImageSet, Split, pack, thin_out
from ltnb.sources import FASHION, from_torchvision

NAMES = ['T-shirt', 'trousers', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'boot']


def part(images, n):
    i = thin_out(images.labels, [n] * 10)
    small = F.avg_pool2d(F.pad(images.images[i], (2,) * 4).float(), 2).round().to(torch.uint8)
    return ImageSet(small, images.labels[i])


if __name__ == '__main__':
    train, test, _ = from_torchvision('fashion_mnist', sys.argv[1])
    split = Split('fashion', part(train, 500), part(test, 300), NAMES)
    print(pack(split, FASHION), 'bytes', split.sha256)
