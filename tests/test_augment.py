"Changed images: torchvision's operations, crops and holes that are what they say, each image by a draw of its own."
import pytest
import torch
import torch.nn.functional as F

from ltnb.augment import affine, auto_augment, blur, crop_flip, cutout, geometric_augment, turn_hue
from ltnb.core import rng
from ltnb.data import to_float, to_uint8


OPERATIONS = [('ShearX', .2), ('ShearY', -.1), ('TranslateX', 6.), ('TranslateY', -4.), ('Rotate', 20.),
              ('Brightness', .4), ('Color', -.4), ('Contrast', .4), ('Sharpness', .5), ('Posterize', 5.),
              ('Solarize', 100.), ('AutoContrast', 0.), ('Equalize', 0.), ('Invert', 0.)]


@pytest.mark.parametrize('number', range(len(OPERATIONS)), ids=[op for op, _ in OPERATIONS])
def test_operations_of_auto_augment_are_torchvisions(number, monkeypatch):
    "With a policy of that operation alone, for images of a size that no other test has: policies are kept by size."
    import torchvision.transforms as T
    op, m = OPERATIONS[number]

    class Policy(T.AutoAugment):
        def __init__(self, policy=None):
            super().__init__()
            self.policies = [((op, 1., 0), ('Invert', -1., None))]
        def _augmentation_space(self, bins, size): return {'Invert': (None, False), op: (torch.tensor([m]), False)}

    monkeypatch.setattr(T, 'AutoAugment', Policy)
    x = torch.randint(256, (6, 3, 32, 33 + number), generator=rng(0)).float()
    x = F.avg_pool2d(x, 5, 1, 2).to(torch.uint8)
    ours = to_uint8(auto_augment(to_float(x), rng(0)))
    theirs = Policy()(x)
    off = (ours.int() - theirs.int()).abs()
    # theirs rounds the mean, or the stretched values, another way; and in a shear a pixel lies between two others
    if op in ('Contrast', 'AutoContrast'): assert off.max() <= 1
    elif op.startswith('Shear'): assert (off > 0).float().mean() < .02
    else: assert off.max() == 0
    assert op == 'AutoContrast' or (ours != x).float().mean() > .1


def test_each_image_has_its_own_policy_and_draw():
    x = torch.rand(1, 3, 16, 16, generator=rng(0)).expand(64, -1, -1, -1) * 2 - 1
    seen = {y.numpy().tobytes() for y in auto_augment(x, rng(1))}
    assert len(seen) > 20 and torch.equal(auto_augment(x, rng(1)), auto_augment(x, rng(1)))


def test_hue_and_blur_are_torchvisions():
    from torchvision.transforms.v2 import functional as TF
    x = torch.rand(5, 3, 9, 9, generator=rng(0))
    x[0] = .5                                               # gray has no hue
    for turn in (-.1, .05, .4):
        assert torch.allclose(turn_hue(x, torch.full((5,), turn)), TF.adjust_hue(x, turn), atol=1e-5)
    assert torch.allclose(blur(x, rng(1), p=1, low=.8, high=.8), TF.gaussian_blur(x, [3, 3], [.8, .8]), atol=1e-5)
    assert torch.allclose(blur(x, rng(1), p=0), x, atol=1e-5)


@pytest.mark.parametrize('size, share, side', [(8, .25, 2), (28, .25, 7), (32, .5, 16)])
def test_a_hole_has_the_side_that_it_is_said_to_have(size, share, side):
    holes = (cutout(torch.ones(200, 1, size, size), rng(0), share) < 0).sum((1, 2, 3))
    assert holes.max() == side ** 2 and (holes < side ** 2).any()       # clipped at the rim


def test_crops_and_mirror_images_are_parts_of_the_padded_image():
    x = torch.rand(40, 3, 9, 9, generator=rng(0)) * 2 - 1
    padded = F.pad(x, (4,) * 4, value=-1.)
    for image, big in zip(crop_flip(x, rng(1)), padded):
        crops = [big[:, dy:dy + 9, dx:dx + 9] for dy in range(9) for dx in range(9)]
        assert any(torch.equal(image, c) or torch.equal(image, c.flip(2)) for c in crops)


def test_a_square_that_is_turned_in_a_wide_image_stays_a_square():
    x = torch.full((2000, 1, 16, 32), -1.)
    x[:, :, 4:12, 12:20] = 1.
    out, what = geometric_augment(x, rng(0), p=.2)
    rest = (what[:, [2, 5, 6, 7, 8]] == 0).all(1)
    turned = [out[rest & (what[:, 4].abs() > .99)], affine(x, rng(0), degrees=90., shift=0., scale=0.)]
    for images in turned:
        big = images[:, 0, :, 8:24] > 0     # beyond, the image is reflected
        assert len(images) and (big.sum((1, 2)) - 64).abs().max() <= 8      # as large as it was
        height, width = (big.any(d).sum(1) for d in (2, 1))
        assert (height - width).abs().max() <= 1


def test_geometric_augmentation_moves_images_as_it_says():
    x = torch.zeros(400, 1, 16, 16)
    x[:, :, 4:8, 6:10] = 1.
    out, what = geometric_augment(x, rng(0), p=.3)
    center = lambda im: torch.stack([(im * torch.arange(16.)).sum((1, 2, 3)),
                                     (im * torch.arange(16.)[:, None]).sum((1, 2, 3))], 1) / im.sum((1, 2, 3))[:, None]
    # only a shift, and not out of the image
    shifted = (what[:, [1, 2, 3, 4, 5, 6]] == 0).all(1) & (what[:, 0] == 0) & (what[:, 7:].abs() < 1.2).all(1)
    assert shifted.sum() > 10 and (what[shifted, 7:] != 0).any()
    expected = center(x)[shifted] + what[shifted, 7:] * 16 / 8
    assert torch.allclose(center(out.clamp(min=0))[shifted], expected, atol=.3)
    untouched = (what == 0).all(1)
    assert torch.allclose(out[untouched], x[untouched], atol=1e-5)
