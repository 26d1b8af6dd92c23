"SAU's three views of CIFAR-size photographs: image by image with PIL, as its code makes them, and in batches on tensors."
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from benchmarks.common import DEVICE, photographs, row, seconds, seconds_a_step
from ltnb.augment import sau_views
from ltnb.classifiers import classifier_settings
from ltnb.core import rng
from ltnb.data import to_float
from ltnb.specs import Learner


class Cutout:
    def __call__(self, x):
        y, c = torch.randint(32, (2,)).tolist()
        x[:, max(0, y - 8):y + 8, max(0, c - 8):c + 8] = -1
        return x


def pil_views():
    crop, tensor = [T.RandomCrop(32, 4), T.RandomHorizontalFlip()], [T.ToTensor(), T.Normalize((.5,) * 3, (.5,) * 3)]
    jitter = [T.RandomApply([T.ColorJitter(.4, .4, .4, .1)], .8), T.RandomGrayscale(.2), T.RandomApply([T.GaussianBlur(3)], .5)]
    return [T.Compose(crop + tensor), T.Compose([*crop, T.AutoAugment(T.AutoAugmentPolicy.CIFAR10), *tensor, Cutout()]),
            T.Compose([T.RandomResizedCrop(32, (.2, 1)), T.RandomHorizontalFlip(), *jitter, *tensor])]


class OneByOne(Dataset):
    def __init__(self, images):
        self.images, self.views = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in images], pil_views()
    def __len__(self): return len(self.images)
    def __getitem__(self, i): return [view(self.images[i]) for view in self.views]


def measure(n=4096, batch_size=128):
    "Images a second that get their three views, with as many loader processes for PIL as PyTorch has threads."
    images = photographs(n).train.images
    cores = torch.get_num_threads()
    loader = DataLoader(OneByOne(images), batch_size, num_workers=cores if cores > 1 else 0, persistent_workers=cores > 1)
    for _ in loader if cores > 1 else (): pass     # so that the processes are there
    def loaded():
        for views in loader: assert [v.shape[1:] for v in views] == [(3, 32, 32)] * 3
    one_by_one = n / seconds(loaded, 3, 0)

    images = images.to(DEVICE)
    def batched(n):
        for i, x in enumerate(images[:n].split(batch_size)):
            for k, view in enumerate(sau_views(True)): assert view(to_float(x), rng(i, k)).shape == x.shape
    in_batches = n / seconds(lambda: batched(n), 8)      # somebody else may take a core for a moment
    return dict(one_by_one=one_by_one, in_batches=in_batches, times=in_batches / one_by_one, cores=cores, batch_size=batch_size)


def share_of_a_step():
    "The share of a training step of SAU that is spent on views: ResNet-32, batches of 128."
    split = photographs()
    settings = classifier_settings(split, 'budget')
    step, _ = seconds_a_step(lambda watch: Learner('sau').train(split, split.train, settings, watch=watch), 6)
    x = to_float(split.train.images[:settings.batch_size].to(DEVICE))
    light, *others = sau_views(True)
    return seconds(lambda: [view(x, rng(0, k)) for k, view in enumerate((light, light, *others))]) / step


def rows():
    found = measure()
    return [row("SAU's three views of 32×32 photographs", 'images/s', (f"image by image with PIL, {found['cores']} processes", found['one_by_one']),
                ('in batches', found['in_batches']), f'AutoAugment, hue and blur against torchvision\'s (tests); views take {share_of_a_step():.0%} of a step', '5 ×')]
