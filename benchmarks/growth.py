"How time and memory grow with classes and images: filters, filling up, metrics, the page of a study; a process of its own for each."
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import row

WIDTH = 64      # of the features
KINDS = ('filtering', 'filling up', 'metrics', 'the page')
CLASSES, IMAGES = (10, 100, 1000), (1000, 10_000, 100_000)


def made(C, n):
    "A split of n made-up training images of 8×8 pixels, a tenth as many test images, and features in which classes lie apart."
    import torch
    from ltnb.core import rng
    from ltnb.data import ImageSet, Split
    centers = torch.randn(C, WIDTH, generator=rng(0))
    def images(n, seed):
        y = torch.arange(n) % C
        return ImageSet(torch.randint(256, (n, 3, 8, 8), generator=rng(seed)).to(torch.uint8), y)
    def features(x): # an image's class follows from its position
        return centers[torch.arange(len(x)) % C] + torch.randn(len(x), WIDTH, generator=rng(len(x)))
    return Split('made', images(n, 1), images(max(n // 10, 6 * C), 2), [f'class {c}' for c in range(C)]), features


def filtering(C, n): # n samples by a tenth as many real images
    from ltnb.filtering import FILTERS
    split, features = made(C, n)
    fake, real = features(split.train.images), features(split.test.images)
    return lambda: FILTERS['agreed'](None).fit(real, split.test.labels).keep(fake, split.train.labels)


def filling_up(C, n): # n samples fill up a tenth as many real images
    from dataclasses import replace
    from ltnb.data import ImageSet
    from ltnb.filling import fill_classes
    split, _ = made(C, n)
    samples = ImageSet.generated(split.train.images, split.train.labels)
    return lambda: fill_classes(replace(split, train=split.test), samples, samples.labels >= 0, target=n // C)


def metrics(C, n): # n samples against n real images
    from dataclasses import replace
    from ltnb.metrics import class_figures
    split, features = made(C, n)
    return lambda: class_figures(replace(split, test=split.train, train=split.test), split.train.images, split.train.labels, features)


def the_page(C, n): # of a study with two generators; that of n images is that of as many test images
    from ltnb.core import load_json
    from ltnb.report import report
    r = load_json(Path(__file__).parents[1] / 'nbs/recorded/fashion/study.json')
    of = lambda x: [x[i % len(x)] for i in range(C)]
    d = r['dataset']
    d |= dict(class_names=[f'class {c}' for c in range(C)], train_counts=of(d['train_counts']), test_counts=[max(1, n // C)] * C, num_classes=C)
    for g in r['generators'].values(): g['per_class'] = of(g['per_class'])
    for c in r['classifiers'].values(): c['per_class'] = of(c['per_class'])
    return lambda: report(r)


def measure(kind, C, n):
    "CPU seconds, and the rise in peak memory beyond what the input takes, in gigabytes."
    import torch
    torch.set_num_threads(1)
    do = globals()[kind.replace(' ', '_')](C, n)
    held, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    do()
    return time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 2**20


def measured(kind, C, n):
    done = subprocess.run([sys.executable, '-c', f'import json; from benchmarks.growth import measure; print(json.dumps(measure({kind!r}, {C}, {n})))'],
                          cwd=Path(__file__).parents[1], check=True, stdout=subprocess.PIPE, text=True, env=dict(os.environ, LTNB_PROGRESS='0'))
    return json.loads(done.stdout.splitlines()[-1])


def rows():
    "Each compared with its smallest size: more classes at 10,000 images, and more images at 100 classes."
    found = []
    for kind in KINDS:
        for what, points in (('classes, 10,000 images', [(C, 10_000, C) for C in CLASSES]), ('images, 100 classes', [(100, n, n) for n in IMAGES])):
            taken = {name: measured(kind, C, n) for C, n, name in points}
            least, *_, most = taken
            said = '; '.join(f'{name:,}: {s:.2g} s, {gb:.2f} GB' for name, (s, gb) in taken.items())
            found.append(row(f'{kind}: {least:,} to {most:,} {what}', 's', (f'{least:,}', taken[least][0]), (f'{most:,}', taken[most][0]), said)
                         | dict(points=[[name, *of] for name, of in taken.items()]))       # number, seconds, gigabytes
    return found
