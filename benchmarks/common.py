"What the benchmarks share: how to time, and how a row looks."
import time

import torch

from ltnb.compute import default_device
from ltnb.training import first_steps

DEVICE = default_device()


def now():
    "Seconds on a clock, when everything that was asked of the device is done."
    if DEVICE.type == 'cuda': torch.cuda.synchronize()
    return time.perf_counter()


def seconds(f, repeat=3, warm=1):
    "The fastest of `repeat` calls, after some that do not count."
    taken = []
    for _ in range(warm + repeat):
        start = now()
        f()
        taken.append(now() - start)
    return min(taken[warm:])


def seconds_a_step(train, steps=5, warm=2):
    "Seconds of the fastest training step after warm-up, and the losses of all steps: later ones depend on what was learned before."
    taken, losses = first_steps(train, steps)
    return min(taken[warm - 1:]), losses


def apart(difference): return f'{difference:.0e} apart' if difference else 'equal'


def furthest(a, b): return (a / b - 1).abs().max().item()


def row(what, unit, baseline, ltnb, checked, aim=''):
    "`baseline` and `ltnb`: (how, value); `checked`: what was compared, and how near it was."
    of = lambda how, value: dict(how=how, value=float(value))
    return dict(what=what, unit=unit, baseline=of(*baseline), ltnb=of(*ltnb), checked=checked, aim=aim)


def photographs(n=2000, size=32, classes=10):
    "A split of made-up photographs: smooth noise, for timings alone."
    from ltnb.core import rng
    from ltnb.data import ImageSet, Split
    x = torch.nn.functional.avg_pool2d(torch.randint(256, (n, 3, size, size), generator=rng(0)).float(), 5, 1, 2).to(torch.uint8)
    images = ImageSet(x, torch.arange(n) % classes)
    return Split('photographs', images, images[:100], [str(c) for c in range(classes)])
