"Precision, recall, density and coverage of 10,000 against 10,000 features of width 2,048: row by row with NumPy, and ltnb's."
import resource

import numpy as np
import torch

from benchmarks.common import now, row
from ltnb.core import rng
from ltnb.metrics import manifold_membership

N, WIDTH, K, ROWS = 10_000, 2048, 5, 100


def row_by_row(real, fake, rows):
    "Radii of the first `rows` of each set, and for those real ones the distances to all generated; NumPy, single precision."
    distance = lambda x, others: np.sqrt(((others - x)**2).sum(1))
    radius = lambda x: np.array([np.partition(distance(x[i], x), K)[K] for i in range(rows)])
    return radius(real), radius(fake), np.stack([distance(real[i], fake) for i in range(rows)])


def rows():
    g = rng(0)
    real = torch.randn(N, WIDTH, generator=g) * torch.linspace(2, .02, WIDTH)      # most of the variance in a few directions, as in features
    fake = torch.randn(N, WIDTH, generator=g) * torch.linspace(2, .02, WIDTH) * .9
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = now()
    member = manifold_membership(real, fake, K)
    after, most = now() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    a, b = real.numpy(), fake.numpy()
    row_by_row(a, b, 2)
    start = now()
    r_real, _, d = row_by_row(a, b, ROWS)
    before = (now() - start) * N / ROWS
    covered = (d < r_real[:, None]).any(1)
    agree = (torch.from_numpy(covered) == member['coverage'][:ROWS].bool()).float().mean().item()
    assert agree == 1 and most < 2, (agree, most)
    return [row('precision, recall, density, coverage (10,000 × 10,000, 2,048 features)', 's',
                (f'row by row, NumPy ({ROWS} rows measured)', before), ('blocks, double precision', after),
                f'coverage of those {ROWS} rows is the same; {most:.2f} GB at the most, {held:.2f} of them before', '5 ×')]
