"Metrics against plain transcriptions of their definitions, and their edge cases."
import math

import numpy as np
import pytest
import torch

from ltnb import metrics
from ltnb.core import InputError, rng
from ltnb.filtering import class_balls
from ltnb.metrics import (bootstrap_interval, calibration_error, class_figures, distances, diversity,
                          frechet_distance, inception_score, kernel_distance, manifold_membership, memorised, nearest, paired_difference, prdc,
                          spread)
from ltnb.sources import load_split


def slow_prdc(real, fake, k):
    dist = lambda a, b: np.linalg.norm(a - b)
    r = [sorted(dist(x, y) for y in real)[k] for x in real]
    q = [sorted(dist(x, y) for y in fake)[k] for x in fake]
    inside = np.array([[dist(x, y) < r[i] for y in fake] for i, x in enumerate(real)])
    return dict(precision=inside.any(0).mean(),
                recall=np.mean([any(dist(x, y) < q[j] for j, y in enumerate(fake)) for x in real]),
                density=inside.sum() / k / len(fake), coverage=inside.any(1).mean())


@pytest.mark.parametrize('k', [1, 5])
@pytest.mark.parametrize('shift', [0., 1., 50.])
def test_prdc_is_its_definition(k, shift):
    g = rng(k)
    real, fake = torch.randn(40, 3, generator=g, dtype=torch.float64), torch.randn(30, 3, generator=g,
                                                                                   dtype=torch.float64) + shift
    slow, fast = slow_prdc(real.numpy(), fake.numpy(), k), prdc(real, fake, k)
    for name in slow: assert abs(slow[name] - fast[name]) < 1e-6, name


def test_prdc_in_blocks_is_prdc_at_once(monkeypatch):
    real, fake = torch.randn(300, 5, generator=rng(0)), torch.randn(200, 5, generator=rng(1))
    whole = prdc(real, fake)
    monkeypatch.setattr(metrics, 'distances', lambda a, b: distances(a, b, block=1000))
    assert prdc(real, fake) == whole


def test_wide_features_are_compared_exactly_and_never_more_distances_held_than_a_block():
    "The sizes of the papers, with their memory, are measured in benchmarks/neighbours.py."
    real, fake = torch.randn(1000, 2048, generator=rng(0)), 1.015 * torch.randn(1000, 2048, generator=rng(1))
    covered = manifold_membership(real, fake)['coverage']
    some = torch.arange(0, 1000, 49)                          # a few images checked one by one, in double precision
    radius = torch.stack([(real.double() - real[i].double()).norm(dim=1).kthvalue(6).values for i in some])
    near = torch.stack([(fake.double() - real[i].double()).norm(dim=1).min() for i in some])
    assert torch.equal(covered[some] > 0, near < radius) and 0 < covered[some].mean() < 1
    rows = [(s.stop - s.start, d.numel()) for s, d in distances(torch.zeros(10_000, 1), torch.zeros(10_000, 1))]
    assert sum(n for n, _ in rows) == 10_000 and max(held for _, held in rows) <= 1 << 23


def test_nearest_in_single_precision_is_exact():
    g = rng(0)
    a, b = torch.randn(300, 200, generator=g), torch.randn(80, 200, generator=g)
    b[40:] = b[:40] + 1e-6 * torch.randn(40, 200, generator=g)         # pairs that single precision cannot tell apart
    b += 1000
    a[:100] = b[torch.randint(80, (100,), generator=g)] + 1e-3
    a[100:200] += 1000
    for k in 1, 5:
        d, i = nearest(a, b, k)
        brute = torch.stack([(x - b.double()).norm(dim=1) for x in a.double()])
        np.testing.assert_allclose(d, brute.topk(k, largest=False).values, rtol=1e-6)
        np.testing.assert_allclose(brute.gather(1, i), d, rtol=1e-6)


def test_prdc_refuses_what_it_cannot_measure():
    x = torch.randn(9, 2)
    with pytest.raises(InputError, match='at least 6'): prdc(x[:5], x)
    with pytest.raises(InputError, match='one width'): prdc(x, torch.randn(9, 3))
    with pytest.raises(InputError, match='NaN'): prdc(x, x / 0 * 0)


def test_frechet_distance_of_known_gaussians():
    g = rng(0)
    a = torch.randn(200_000, 2, generator=g)
    b = 2 * torch.randn(200_000, 2, generator=g) + torch.tensor([3., 0.])
    assert abs(frechet_distance(a, b) - (9 + 2 * (1 - 2)**2)) < .1
    one = torch.ones(5, 2)
    assert frechet_distance(one, one) == 0      # no spread at all


def test_frechet_distance_of_fewer_images_than_features_is_that_of_their_covariances():
    def by_roots(a, b):      # as Heusel et al. have it
        (S1, S2), d = (torch.cov(x.double().T) for x in (a, b)), a.double().mean(0) - b.double().mean(0)
        lam, V = torch.linalg.eigh(S1)
        root = V * lam.clamp(min=0).sqrt() @ V.T
        return (d.square().sum() + S1.trace() + S2.trace() - 2 * torch.linalg.eigvalsh(root @ S2 @ root).clamp(min=0).sqrt().sum()).item()
    g = rng(0)
    for n, m in (30, 40), (30, 9000), (9000, 30), (9000, 300):      # of 40 features; 9,000 are more than a block
        a, b = torch.randn(n, 40, generator=g), 1 + 2 * torch.randn(m, 40, generator=g)
        assert frechet_distance(a, b) == pytest.approx(by_roots(a, b), rel=1e-6)
        assert frechet_distance(a, a) < 1e-6 < frechet_distance(a, b)


def test_kernel_distance_in_blocks_is_its_formula_and_holds_no_more_than_a_block(monkeypatch):
    def plain(a, b):
        a, b = a.double(), b.double()
        k = lambda x, y: (x @ y.T / x.shape[1] + 1)**3
        off = lambda K: (K.sum() - K.trace()) / (len(K) * (len(K) - 1))
        return (off(k(a, a)) + off(k(b, b)) - 2 * k(a, b).mean()).item()
    g = rng(0)
    for n, m in (5, 7), (3000, 2048), (2049, 4500):     # blocks are of 2,048
        a, b = torch.randn(n, 64, generator=g), .1 + 1.1 * torch.randn(m, 64, generator=g)
        for x, y in (a, b), (20 * a, 20 * b), (a, a):
            assert kernel_distance(x, y) == pytest.approx(plain(x, y), rel=1e-5, abs=1e-6)
    held, product = [], torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, '__matmul__', lambda x, y: held.append((K := product(x, y)).numel()) or K)
    kernel_distance(torch.zeros(10_000, 1), torch.zeros(6_000, 1))
    assert max(held) <= 2048**2 and sum(held) < 1.3 * (10_000**2 / 2 + 6_000**2 / 2 + 6_000 * 10_000)


@pytest.mark.parametrize('D', [64, 784, 2048])
def test_equal_images_are_no_distance_apart_however_wide_their_features(D):
    x = 100 * torch.rand(300, D, generator=rng(0))
    for i in range(0, 300, 100): assert all((d == 0).all() for _, d in distances(x[i:i + 1], x[i:i + 1].expand(9, -1)))
    assert diversity(x[:1].expand(9, -1), x) is None
    assert class_balls(x[:2], torch.tensor([0, 1]))[1].tolist() == [0, 0]


def test_pairs_of_images_need_two_and_a_sure_classifier_has_a_score():
    x = torch.rand(5, 3, generator=rng(0))
    for f in frechet_distance, kernel_distance, diversity:
        for a, b in (x[:1], x), (x, x[:1]), (x[:0], x):
            with pytest.raises(InputError, match='two images of each set are needed'): f(a, b)
    assert inception_score(900. * torch.eye(4)) == pytest.approx(4) and inception_score(torch.zeros(9, 4)) == pytest.approx(1)


def test_diversity_and_copies():
    x = torch.randn(50, 4, generator=rng(0))
    assert abs(diversity(x, 3 * x) - 3) < 1e-4 and diversity(x, x[:1].expand(9, -1)) == 0
    assert diversity(x[:1].expand(9, -1), x) is None
    new, held_out = torch.randn(500, 4, generator=rng(1)), torch.randn(500, 4, generator=rng(2))
    assert memorised(x + 1e-4, x, held_out) == 1 and memorised(new, x, held_out) < .1


def test_figures_of_an_empty_group_and_of_too_few_samples_are_none(folder):
    split = load_split(f'folder:{folder}')        # no class has over 100 images
    f = class_figures(split, split.test.images, split.test.labels)
    assert f['many']['recall'] is None and f['few']['recall'] is not None and f['few']['class_consistency'] is None
    f = class_figures(split, split.test.images[:3], split.test.labels[:3])
    assert f['per_class'][0]['recall'] is None and f['per_class'][0]['diversity'] is not None
    assert f['per_class'][1] | dict(n_real=0, n_generated=0) == dict.fromkeys(f['per_class'][1]) | dict(n_real=0,
                                                                                                        n_generated=0)


def test_inception_features_and_what_to_do_without_the_weights(monkeypatch, tmp_path):
    import torch_fidelity.feature_extractor_inceptionv3 as library
    built = []

    def no_network(*args, **kwargs): raise OSError('no route to host')

    monkeypatch.setattr(library, 'load_state_dict_from_url', no_network)
    with pytest.raises(InputError, match=r'no route to host.*weights-inception.*checkpoints.*pixels'):
        metrics.inception(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    # random weights, in the real network
    monkeypatch.setattr(library.FeatureExtractorInceptionV3, 'load_state_dict', lambda self, state: built.append(state))
    monkeypatch.setattr(library, 'load_state_dict_from_url', lambda url, **kwargs: url)
    images = torch.randint(256, (3, 1, 8, 8), generator=rng(0)).to(torch.uint8)
    f = metrics.inception(images, batch_size=2)
    assert f.shape == (3, 2048) and f.isfinite().all() and built == [library.URL_INCEPTION_V3]
    # gray is three equal channels; built once
    assert torch.allclose(f, metrics.inception(images.expand(-1, 3, -1, -1)), atol=1e-4)


def test_groups_can_be_another_splits():
    split, other = load_split('digits'), load_split('digits', 2)
    f = class_figures(other, split.test.images, split.test.labels, groups=split.groups)
    assert f['few']['n_real'] == 240
    assert class_figures(other, split.test.images[:50], split.test.labels[:50])['few']['recall'] is None


def test_an_interval_is_of_the_mean_over_classes():
    # the figure is the mean of 0 and 1, whatever the numbers of images
    few, many = torch.zeros(10), torch.ones(90)
    assert bootstrap_interval([few, many]) == (.5, .5)


def test_spread():
    assert spread([1., 3.]) == dict(mean=2., std=math.sqrt(2), values=[1., 3.])
    assert spread([5.])['std'] == 0


def test_the_interval_over_draws_is_that_of_their_means():
    # means of the draws 2, 4, 9: mean 5, standard error sqrt(13/3), t(2) at 97.5 % is 4.3027
    s = spread([1., 3., 4., 4., 10., 8.], draws=3)
    assert s['mean'] == 5 and s['values'] == [1, 3, 4, 4, 10, 8]
    for k, sign in ('low', -1), ('high', 1): assert abs(s[k] - 5 - sign * 4.3027 * (13 / 3)**.5) < 1e-3
    assert s['std'] == pytest.approx(np.std([1, 3, 4, 4, 10, 8], ddof=1))
    assert spread([2., 2., 2., 2.], draws=2)['low'] is None     # nothing varies
    d, by_seed = (paired_difference([1., 3., 4., 4., 10., 8.], [0.]*6, n) for n in (3, 1))
    assert (d['low'], d['high']) == (s['low'], s['high']) and d['p'] > by_seed['p']


def test_a_paired_difference_is_students():
    # differences 2, 3, 1: mean 2, standard error 1/sqrt(3), t(2) at 97.5 % is 4.3027
    d = paired_difference([3., 5., 4.], [1., 2., 3.])
    assert abs(d['mean'] - 2) < 1e-9 and abs(d['high'] - 2 - 4.3027 / 3 ** .5) < 1e-3
    assert abs(d['low'] + d['high'] - 4) < 1e-9 and .05 < d['p'] < .1
    assert paired_difference([1.], [0.]) == dict(mean=1., low=None, high=None, p=None)
    assert paired_difference([1., 2.], [1., 2.])['p'] is None


def test_calibration_error():
    sure, unsure = torch.tensor([[20., 0.], [0., 20.]]), torch.zeros(2, 2)
    assert calibration_error(sure, torch.tensor([0, 1])) < 1e-6 and calibration_error(sure, torch.tensor([1, 0])) > .99
    assert abs(calibration_error(unsure, torch.tensor([0, 1]))) < 1e-6
    assert abs(calibration_error(unsure, torch.tensor([1, 1])) - .5) < 1e-6
