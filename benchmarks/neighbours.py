"Precision, recall, density and coverage of 10,000 against 10,000 features of width 2,048: row by row with NumPy, and ltnb's."
import resource

import numpy as np
import torch

from benchmarks.common import now, row
from ltnb.core import rng
from ltnb.metrics import manifold_membership

N, WIDTH, K, ROWS = 10_000, 2048, 5, 100


def distance(x, others): return np.sqrt(((others - x)**2).sum(1))


def radius(x, others): return np.partition(distance(x, others), K)[K]      # the nearest is the image itself


def row_by_row(real, fake, rows=None):
    "Radii of the first `rows` of both sets, and the distances of those real ones to all generated; NumPy, single precision."
    return (np.array([radius(x, real) for x in real[:rows]]), np.array([radius(x, fake) for x in fake[:rows]]),
            np.stack([distance(x, fake) for x in real[:rows]]))


def rows():
    g = rng(0)
    real = torch.randn(N, WIDTH, generator=g) * torch.linspace(2, .02, WIDTH)      # most of the variance in a few directions, as in features
    fake = torch.randn(N, WIDTH, generator=g) * torch.linspace(2, .02, WIDTH) * 1.03
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = now()
    member = manifold_membership(real, fake, K)
    after, most = now() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert most < 2, most
    a, b = real.numpy(), fake.numpy()
    row_by_row(a, b, 2)
    start = now()
    r_real, _, d = row_by_row(a, b, ROWS)
    before = (now() - start) * N / ROWS
    covered = torch.from_numpy((d < r_real[:, None]).any(1)).float()
    assert torch.equal(covered, member['coverage'][:ROWS]) and 0 < covered.mean() < 1, covered.mean()
    few = 500      # and all four, of the first 500 of each
    r_real, r_fake, d = (torch.from_numpy(v) for v in row_by_row(a[:few], b[:few]))
    plain = dict(precision=(d < r_real[:, None]).any(0).float(), recall=(d < r_fake).any(1).float(),
                 density=(d < r_real[:, None]).sum(0).double() / K, coverage=(d < r_real[:, None]).any(1).float())
    found = manifold_membership(real[:few], fake[:few], K)
    for name, v in plain.items(): assert torch.equal(v, found[name]) and 0 < v.mean(), name
    return [row('precision, recall, density, coverage (10,000 × 10,000, 2,048 features)', 's',
                (f'row by row, NumPy ({ROWS} rows measured)', before), ('blocks, double precision', after),
                f'equal: coverage of those rows, all four of {few} × {few}; {most:.2f} GB at the most, {held:.2f} of them before', '5 ×')]
