"The papers' formulas against plain transcriptions of them, value and gradient, and their edge cases."
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT

import ltnb
from ltnb.cbdm import CBDMLoss, cbdm_loss
from ltnb.classifiers import (NETWORKS, CrossEntropy, ResNet32, SmallNet, build, calibration_error, classifier_settings, crop_flip, paired_difference,
                              spread, train_classifier)
from ltnb.core import InputError, rng
from ltnb.data import ImageSet, Split, load_split
from ltnb.diffusion import (SAMPLERS, ddpm_loss, describe, generator_settings, noise_schedule, noisy_batch, sample, train_generator,
                            unet, with_sampler)
from ltnb.filtering import FILTERS, AIDLoss, DropOOD, NeighbourAgreement, aid_loss, class_balls, fill_classes, filter_report, id_aid_ood
from ltnb.metrics import bootstrap_interval, class_figures, diversity, frechet_distance, memorised, nearest, prdc
from ltnb.rebalancing import METHODS, ClassBalanced, Focal, LogitAdjusted, LDAM, class_weights, train_with
from ltnb.sau import (STRATEGIES, Learner, Relabelling, SAULoss, SyntheticAwareContrastiveLoss, _operate, auto_augment, blur, cutmix, cutout, distrusted, relabel,
                      sau_settings, sau_views, separability, turn_hue)
from ltnb.study import study_settings


# ---- CBDM

@pytest.mark.parametrize('tau, gamma', [(1., .25), (.5, 0.), (3., 1.)])
def test_cbdm_loss_is_the_authors(tau, gamma):
    g = rng(0)
    h, h_bal = (torch.randn(8, 3, 4, 4, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    t = torch.randint(1000, (8,), generator=g)
    total = torch.zeros((), dtype=torch.float64)            # term by term, image by image: w = tau t / T, squared errors, stopped gradients
    for i in range(8):
        w = tau * t[i].item() / 1000
        total = total + (w * F.mse_loss(h[i], h_bal[i].detach(), reduction='none') + gamma * w * F.mse_loss(h[i].detach(), h_bal[i], reduction='none')).mean() / 8
    value = cbdm_loss(h, h_bal, t, 1000, tau, gamma)
    assert abs(value.item() - total.item()) < 1e-6
    for a, b in zip(torch.autograd.grad(value, (h, h_bal), retain_graph=True), torch.autograd.grad(total, (h, h_bal))): assert torch.allclose(a, b, atol=1e-9)


def test_cbdm_from_the_training_function_is_two_separate_passes():
    split = load_split()
    settings = generator_settings(split, 'tiny')
    net = unet(split, settings)
    batch, _ = noisy_batch(split, settings, noise_schedule(), 3, 0)
    assert (batch.label == 10).any()
    other = torch.multinomial(split.prior, len(batch.y), replacement=True, generator=rng(7))
    h, h_bal = (net(batch.xt, batch.t, class_labels=y).sample for y in (batch.label, other))
    kept = batch.label == batch.y
    w = (batch.t / 1000 * kept).view(-1, 1, 1, 1)
    expected = (h - batch.eps).square().mean() + 1.25 * (w * (h - h_bal).square()).mean()
    value, eps = CBDMLoss(split.prior)(net, batch, rng(7))
    assert torch.allclose(value, expected, rtol=1e-5) and torch.allclose(eps, h, atol=1e-5)


def test_the_null_label_adds_nothing_and_stays_so():
    split = load_split()
    net = unet(split, generator_settings(split, 'tiny'))
    batch, g = noisy_batch(split, generator_settings(split, 'tiny'), noise_schedule(), 0, 0)
    batch.label = torch.full_like(batch.y, 10)
    ddpm_loss(net, batch, g)[0].backward()
    assert net.class_embedding.weight[10].abs().max() == 0 and net.class_embedding.weight.grad[10].abs().max() == 0


# ---- metrics

def slow_prdc(real, fake, k):
    dist = lambda a, b: np.linalg.norm(a - b)
    r = [sorted(dist(x, y) for y in real)[k] for x in real]
    q = [sorted(dist(x, y) for y in fake)[k] for x in fake]
    inside = np.array([[dist(x, y) < r[i] for y in fake] for i, x in enumerate(real)])
    return dict(precision=inside.any(0).mean(), recall=np.mean([any(dist(x, y) < q[j] for j, y in enumerate(fake)) for x in real]),
                density=inside.sum() / k / len(fake), coverage=inside.any(1).mean())


@pytest.mark.parametrize('k', [1, 5])
@pytest.mark.parametrize('shift', [0., 1., 50.])
def test_prdc_is_its_definition(k, shift):
    g = rng(k)
    real, fake = torch.randn(40, 3, generator=g, dtype=torch.float64), torch.randn(30, 3, generator=g, dtype=torch.float64) + shift
    slow, fast = slow_prdc(real.numpy(), fake.numpy(), k), prdc(real, fake, k)
    for name in slow: assert abs(slow[name] - fast[name]) < 1e-6, name


def test_prdc_in_blocks_is_prdc_at_once(monkeypatch):
    real, fake = torch.randn(300, 5, generator=rng(0)), torch.randn(200, 5, generator=rng(1))
    whole = prdc(real, fake)
    import ltnb.metrics as m
    blocks = m.distances
    monkeypatch.setattr(m, 'distances', lambda a, b: blocks(a, b, block=1000))
    assert prdc(real, fake) == whole


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


def test_diversity_and_copies():
    x = torch.randn(50, 4, generator=rng(0))
    assert abs(diversity(x, 3 * x) - 3) < 1e-4 and diversity(x, x[:1].expand(9, -1)) == 0 and diversity(x[:1].expand(9, -1), x) is None
    new, held_out = torch.randn(500, 4, generator=rng(1)), torch.randn(500, 4, generator=rng(2))
    assert memorised(x + 1e-4, x, held_out) == 1 and memorised(new, x, held_out) < .1


def test_figures_of_an_empty_group_and_of_too_few_samples_are_none(folder):
    split = load_split(f'folder:{folder}')        # no class has over 100 images
    f = class_figures(split, split.test.images, split.test.labels)
    assert f['many']['recall'] is None and f['few']['recall'] is not None and f['few']['class_consistency'] is None
    f = class_figures(split, split.test.images[:3], split.test.labels[:3])
    assert f['per_class'][0]['recall'] is None and f['per_class'][0]['diversity'] is not None
    assert f['per_class'][1] | dict(n_real=0, n_generated=0) == dict.fromkeys(f['per_class'][1]) | dict(n_real=0, n_generated=0)


def test_inception_features_and_what_to_do_without_the_weights(monkeypatch, tmp_path):
    import torch_fidelity.feature_extractor_inceptionv3 as library
    from ltnb import metrics
    built = []

    def no_network(*args, **kwargs): raise OSError('no route to host')

    monkeypatch.setattr(library, 'load_state_dict_from_url', no_network)
    metrics._inception.cache_clear()
    with pytest.raises(InputError, match=r'no route to host.*weights-inception.*checkpoints.*pixels'): metrics.inception(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    monkeypatch.setattr(library.FeatureExtractorInceptionV3, 'load_state_dict', lambda self, state: built.append(state))     # random weights, in the real network
    monkeypatch.setattr(library, 'load_state_dict_from_url', lambda url, **kwargs: url)
    images = torch.randint(256, (3, 1, 8, 8), generator=rng(0)).to(torch.uint8)
    f = metrics.inception(images, batch_size=2)
    assert f.shape == (3, 2048) and f.isfinite().all() and built == [library.URL_INCEPTION_V3]
    assert torch.allclose(f, metrics.inception(images.expand(-1, 3, -1, -1)), atol=1e-4)     # gray is three equal channels; built once
    metrics._inception.cache_clear()


def test_groups_can_be_another_splits():
    split, other = load_split(), load_split(imbalance_factor=2)
    f = class_figures(other, split.test.images, split.test.labels, groups=split.groups)
    assert f['few']['n_real'] == 240 and class_figures(other, split.test.images, split.test.labels)['few']['recall'] is None


def test_an_interval_is_of_the_mean_over_classes():
    few, many = torch.zeros(10), torch.ones(90)           # the figure is the mean of 0 and 1, whatever the numbers of images
    assert bootstrap_interval([few, many]) == (.5, .5)


def test_ten_thousand_against_ten_thousand_in_two_gigabytes():
    "Exactly the figures of the definition, on the sizes of the papers, in a process of its own that may not use more."
    code = '''
import resource, torch
from ltnb.core import rng
from ltnb.metrics import manifold_membership
real, fake = torch.randn(10_000, 2048, generator=rng(0)), torch.randn(10_000, 2048, generator=rng(1))
covered = manifold_membership(real, fake)['coverage']
some = torch.arange(0, 10_000, 499)                          # a few images checked one by one, in double precision
radius = torch.stack([(real.double() - real[i].double()).norm(dim=1).kthvalue(6).values for i in some])
nearest = torch.stack([(fake.double() - real[i].double()).norm(dim=1).min() for i in some])
assert torch.equal(covered[some] > 0, nearest < radius) and 0 < covered[some].mean() < 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert float(out[-1]) < 2, f'{out[-1]} GB'


# ---- filtering

def test_a_class_with_one_image_and_features_that_are_not_finite():
    real, y = torch.tensor([[0., 0.], [4., 0.], [9., 9.]]), torch.tensor([0, 0, 1])
    fake, asked = torch.tensor([[2., 4.], [2., 8.1], [math.nan, 0.], [9., 9.], [9., 10.], [math.inf, 0.]]), torch.tensor([0, 0, 0, 1, 1, 1])
    assert id_aid_ood(fake, asked, real, y).tolist() == [0, 2, 2, 0, 2, 2]      # with d_f = 0 only a copy is in
    assert id_aid_ood(fake, asked, real, y, 'pooled').tolist() == [0, 2, 2, 0, 0, 2]
    assert class_balls(real, y, 'shrunk')[1][0] == 4 and 3 < class_balls(real, y, 'shrunk')[1][1] < 4
    assert DropOOD().fit(real, y).keep(fake, asked).tolist() == [True, False, False, True, False, False]
    assert NeighbourAgreement().fit(real, y).keep(fake, asked).tolist() == [True, False, False, True, True, False]


def test_kinds_are_those_of_the_definition():
    g = rng(3)
    real, y = torch.randn(60, 5, generator=g), torch.arange(60) % 3
    fake, asked = 4 * torch.randn(200, 5, generator=g), torch.randint(3, (200,), generator=g)
    for f, c, kind in zip(fake, asked, id_aid_ood(fake, asked, real, y)):
        mine = [r for r, label in zip(real, y) if label == c]
        d_f = max(float((a - b).norm()) for a in mine for b in mine)
        d = float((f - sum(mine) / len(mine)).norm())
        assert kind == (0 if d <= d_f else 1 if d <= 2 * d_f else 2)
    assert len(id_aid_ood(fake, asked, real, y).unique()) == 3


class Head(torch.nn.Module):     # a classifier of the plane: class 0 left of 5, class 1 right of it
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(2, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1., 0.], [1., 0.]]))
            self.head.bias.copy_(torch.tensor([5., -5.]))


def test_every_filter_keeps_what_it_says():
    "Class 0 is a square with corners at 0 and 2, class 1 another from 9 to 11; all samples are asked for as class 0."
    corners = torch.tensor([[0., 0.], [2., 0.], [0., 2.], [2., 2.]])
    real, y = torch.cat([corners, corners + torch.tensor([9., 0.])]), torch.arange(8) // 4
    points = dict(copy=[2., 2.], middle=[1., 1.], near=[1., 3.5], far=[1., 6.], farther=[1., 8.], between=[5.6, 1.], theirs=[10., 1.], nothing=[math.nan, 0.])
    # d_f is the diagonal, 2.83; other images of a class are 2 away
    expected = dict(none='copy middle near far farther between theirs', diffult='copy middle near far between', pooled='copy middle near far between',
                    shrunk='copy middle near far between', id='copy middle near', aid='far between', ood='farther theirs nothing',
                    prototype='copy middle near far farther', neighbours='copy middle near far farther', confidence='copy middle near far farther',
                    manifold='copy middle near', band='middle near', agreed='copy middle near far')
    asked = torch.zeros(len(points), dtype=torch.long)
    assert expected.keys() == FILTERS.keys()
    for name, right in expected.items():
        kept = FILTERS[name](Head()).fit(real, y).keep(torch.tensor(list(points.values())), asked)
        assert ' '.join(p for p, k in zip(points, kept) if k) in (right, f'{right} nothing' if name == 'none' else right), name


def test_a_filter_of_a_class_with_one_image_keeps_a_copy_and_drops_what_is_of_another_class():
    real, y = torch.tensor([[0., 0.], [2., 0.], [0., 2.], [9., 1.]]), torch.tensor([0, 0, 0, 1])
    fake = torch.tensor([[9., 1.], [0., .1], [math.inf, 0.]])
    for name, make in FILTERS.items():
        kept = make(Head()).fit(real, y).keep(fake, torch.ones(3, dtype=torch.long)).tolist()
        if name in ('aid', 'ood', 'band'): assert not kept[0], name       # a copy is ID, and the band drops copies
        elif name != 'none': assert kept == [True, False, False], name


def test_a_class_that_cannot_be_filled():
    split = load_split()
    samples = ImageSet.generated(torch.zeros(40, 1, 8, 8, dtype=torch.uint8), torch.full((40,), 9))
    filled = fill_classes(split, samples, torch.arange(40) < 25)
    assert filled.data.counts(10)[9] == 30 and filled.missing[9] == 84 and filled.missing[1] == 114 - 81 and 0 not in filled.missing
    assert filled.data.synthetic.sum() == 25 and not filled.data[:len(split.train)].synthetic.any()


def test_classes_are_filled_in_rounds_and_one_that_cannot_be_is_left(tmp_path):
    split, asked = load_split(), []

    def more(labels, first):
        asked.append((first, torch.bincount(labels, minlength=10).tolist()))
        s = ImageSet.generated(torch.full((len(labels), 1, 8, 8), len(asked), dtype=torch.uint8), labels)
        return s, (labels != 9) & (torch.arange(len(s)) % 2 == 0)       # every other one is kept, of class 9 none

    empty = ImageSet.generated(torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    filled = fill_classes(split, empty, more=more, rounds=6, path=tmp_path / 'filled.safetensors')
    lack = 114 - split.counts[9]
    assert filled.data.counts(10) == [114] * 9 + [split.counts[9]] and filled.missing == {9: lack} and filled.rounds == 6
    assert asked[0] == (0, [10 * (114 - n) for n in split.counts])      # nothing is known of the rate yet: ten times what is missing
    assert asked[1] == (sum(asked[0][1]), [0] * 9 + [10 * lack])        # numbers go on, and only what is missing is asked for
    assert filled.generated[9] == 60 * lack and filled.accepted[9] == 0
    again = fill_classes(split, empty, path=tmp_path / 'filled.safetensors')
    assert repr(again) == repr(filled) and again.data.sha256 == filled.data.sha256 and again.missing == filled.missing
    with pytest.raises(InputError, match='made of other samples'): fill_classes(split, empty, target=20, path=tmp_path / 'filled.safetensors')
    only_few = fill_classes(split, empty, target=[0] * 6 + [20] * 4, more=more, rounds=1)
    assert only_few.data.counts(10)[:6] == split.counts[:6] and set(only_few.missing) == {9}


def test_a_report_with_an_image_that_is_not_finite_and_a_class_without_samples():
    split = load_split()
    samples = ImageSet.generated(split.train.images[:300], split.train.labels[:300])      # none of the rarest classes
    phi = lambda images: torch.where((images == split.train.images[0]).all((1, 2, 3))[:, None], math.nan, images.flatten(1).float())
    r = filter_report(split, samples, phi, FILTERS['neighbours'](None))
    assert r.kinds[0] == 2 and not r.kept[0] and r.kept[200] and r.figures()['label_purity_after'] is None
    last = r.table()[-1]
    assert last['generated'] == 0 and last['id'] is None and '–' in r._repr_markdown_()
    r.figure()


def test_the_gradient_of_the_aid_loss_is_the_numerical_one():
    g = rng(0)
    still, moved = (torch.randn(6, 4, generator=g, dtype=torch.float64) for _ in range(2))
    abar, d_f = torch.linspace(.9999, .001, 6, dtype=torch.float64), torch.rand(6, generator=g, dtype=torch.float64) + .5
    moved.requires_grad_()
    T = 4.036e-5
    for bound in 1., 10., math.inf:      # on the factor; without one it is the paper's formula
        assert torch.autograd.gradcheck(lambda m: aid_loss(still, m, abar, d_f, largest=bound), (moved,))
        expected = sum(.1 * (min(bound, ((1 - T) / (1 - a)) ** .5) * (s - m).norm().item() - 1.5 * d) ** 2 for s, m, a, d in zip(still, moved, abar.tolist(), d_f.tolist())) / 6
        assert abs(aid_loss(still, moved, abar, d_f, largest=bound).item() / expected - 1) < 1e-8
    at_zero = still.clone().requires_grad_()
    assert torch.autograd.grad(aid_loss(still, at_zero, abar, d_f), at_zero)[0].isfinite().all()     # nothing has moved


@pytest.mark.parametrize('relative', [False, True])
def test_the_aid_loss_is_added_to_the_base_and_reaches_the_generator_alone(relative):
    split = load_split()
    settings, phi = generator_settings(split, 'tiny'), build(split, classifier_settings(split, 'tiny'))
    loss = AIDLoss(split, phi, CBDMLoss(split.prior), alpha=.2, largest=10., relative=relative)
    net = unet(split, settings)
    batch, _ = noisy_batch(split, settings, noise_schedule(), 0, 0)
    value, eps = loss(net, batch, rng(1))
    base, _ = CBDMLoss(split.prior)(net, batch, rng(1))
    with torch.no_grad():
        d = (phi.features(batch.x0) - phi.features(batch.x0 + batch.eps - eps)).norm(dim=1)
        d_f = class_balls(phi.features(split.train.images / 127.5 - 1), split.train.labels)[1][batch.y]
        d_t = d * ((1 - noise_schedule().alphas_cumprod[-1]) / (1 - batch.abar.flatten())).sqrt().clamp(max=10)
        if relative: d_t, d_f = d_t / d_f, 1.
        assert torch.allclose(value - base, .2 * (d_t - 1.5 * d_f).square().mean(), rtol=1e-4)
    value.backward()
    assert all(p.grad is None for p in phi.parameters()) and net.conv_out.weight.grad.abs().max() > 0
    about = describe(loss)
    assert about['base'] == describe(CBDMLoss(split.prior)) and about['alpha'] == .2 and len(about['phi']) == 64


def test_fifty_thousand_samples_against_ten_thousand_real_ones_in_thirty_seconds_and_two_gigabytes():
    code = '''
import resource, time, torch
from ltnb.core import rng
from ltnb.filtering import FILTERS
real, fake = torch.randn(10_000, 2048, generator=rng(0)), torch.randn(50_000, 2048, generator=rng(1))
y, asked = torch.arange(10_000) % 10, torch.arange(50_000) % 10
start = time.perf_counter()
kept = FILTERS['agreed'](None).fit(real, y).keep(fake, asked)
print(kept.float().mean().item(), time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    assert .08 < float(out[0]) < .12 and float(out[1]) < 30 and float(out[2]) < 2, out      # nearest neighbours of noise agree by chance


# ---- SAU

def slow_contrastive(z, labels, synthetic, prototypes, strategy, temperature=.1):
    "SAU's loss with loops, from its description: vote, relabel, then supervised contrast over two views."
    C = len(prototypes)
    entries = [(z[i], int(labels[i])) for i in range(len(z)) if not synthetic[i]] + [(prototypes[c], c) for c in range(C)]
    fakes, noise = [], 0
    for i in range(len(z)):
        if not synthetic[i]: continue
        votes = [max(entries, key=lambda e: F.cosine_similarity(z[i, v], e[0][v], dim=0).item())[1] for v in (0, 1)]
        if votes == [int(labels[i])] * 2: fakes.append((z[i], int(labels[i])))
        elif strategy == 'drop': continue
        else:
            noise += 1
            fakes.append((z[i], -noise if strategy == 'pos_neg' else -1))
    everything = entries + fakes
    anchors = [(e[0][v], e[1]) for v in (0, 1) for e in everything]
    losses = []
    for i, (a, y) in enumerate(anchors):
        if strategy == 'neg_only' and y == -1: continue
        others = [j for j in range(len(anchors)) if j != i]
        log_sum = torch.logsumexp(torch.stack([a @ anchors[j][0] / temperature for j in others]), 0)
        same = [a @ anchors[j][0] / temperature - log_sum for j in others if anchors[j][1] == y]
        losses.append(-torch.stack(same).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize('strategy', STRATEGIES)
@pytest.mark.parametrize('seed', range(3))
def test_contrastive_loss_is_the_authors(strategy, seed):
    g = rng(seed)
    z = F.normalize(torch.randn(14, 2, 5, generator=g, dtype=torch.float64), dim=-1).requires_grad_()
    labels, synthetic = torch.randint(3, (14,), generator=g), torch.rand(14, generator=g) < .6
    prototypes = .4 * torch.randn(4, 2, 5, generator=g, dtype=torch.float64)        # class 3 is in no image of the batch
    arguments = [x.clone() for x in (z.detach(), labels, synthetic, prototypes)]
    fast = SyntheticAwareContrastiveLoss(strategy)(z, labels, synthetic, prototypes)
    slow = slow_contrastive(z, labels, synthetic, prototypes, strategy)
    assert abs(fast.item() - slow.item()) < 1e-5
    assert torch.allclose(*(torch.autograd.grad(x, z)[0] for x in (fast, slow)), atol=1e-5)
    for before, after in zip(arguments, (z.detach(), labels, synthetic, prototypes)): assert torch.equal(before, after)
    relabelled = relabel(z, labels, synthetic, prototypes, strategy)
    assert torch.equal(relabelled[~synthetic], labels[~synthetic]) and (relabelled < 0).any()


def test_contrastive_loss_edges():
    z, prototypes = F.normalize(torch.randn(6, 2, 4), dim=-1).requires_grad_(), torch.randn(3, 2, 4)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    for strategy in STRATEGIES:
        for synthetic in torch.zeros(6), torch.ones(6):
            loss = SyntheticAwareContrastiveLoss(strategy)(z, labels, synthetic, prototypes)
            assert torch.autograd.grad(loss, z)[0].isfinite().all()
    with pytest.raises(InputError, match='from 0 to 2'): SyntheticAwareContrastiveLoss()(z, labels + 1, torch.zeros(6), prototypes)
    with pytest.raises(InputError, match='strategy'): SyntheticAwareContrastiveLoss('keep')


def test_an_interrupted_sau_training_ends_at_the_same_weights(tmp_path):
    split = load_split()
    data = split.train + ImageSet(split.full.images[:300], split.full.labels[:300], torch.ones(300, dtype=torch.bool))
    settings = replace(classifier_settings(split, 'tiny'), steps=24)
    go = lambda name, watch=None: train_classifier(split, data, SAULoss(split), settings, path=tmp_path / f'{name}.safetensors', save_every=0, watch=watch)

    def interrupt(i, losses):
        if i == 16: raise KeyboardInterrupt        # in the middle of an epoch, whose prototypes were made before

    once = go('once')
    with pytest.raises(KeyboardInterrupt): go('twice', interrupt)
    assert (tmp_path / 'twice.checkpoint.safetensors').exists()
    twice = go('twice')
    for a, b in zip(once.state_dict().values(), twice.state_dict().values()): assert torch.equal(a, b)


def test_prototypes_come_from_the_real_training_images_only():
    split, net = load_split(), SmallNet(1, 10)
    loss = SAULoss(split)
    loss.attach(net)
    loss.start_epoch(net, 0)
    before = net.prototypes.clone()
    for other in split.test, split.full: other.images.random_(0, 256, generator=rng(0))    # spoil every image that is not of the split
    loss.start_epoch(net, 0)
    assert torch.equal(before, net.prototypes) and net.training
    split.train.images.random_(0, 256, generator=rng(0))
    loss.start_epoch(net, 0)
    assert not torch.equal(before, net.prototypes)


@pytest.mark.parametrize('channels', [1, 3])
def test_views_keep_shape_and_range_and_repeat(channels):
    x = torch.rand(20, channels, 32, 32, generator=rng(0)) * 2 - 1
    for view in sau_views(channels == 3):
        a, b, c = view(x, rng(1)), view(x, rng(1)), view(x, rng(2))
        assert a.shape == x.shape and a.abs().max() <= 1 + 1e-5 and torch.equal(a, b) and not torch.equal(a, c)


def test_without_prototypes_the_real_images_alone_vote():
    z, labels = F.normalize(torch.randn(8, 2, 4, generator=rng(0)), dim=-1).requires_grad_(), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    none, synthetic = torch.zeros(0, 2, 4), torch.arange(8) > 3
    for strategy in STRATEGIES:
        assert torch.autograd.grad(SyntheticAwareContrastiveLoss(strategy)(z, labels, synthetic, none), z)[0].isfinite().all()
        assert relabel(z, labels, torch.ones(8, dtype=torch.bool), none, strategy).max() < 0      # nobody to ask: nobody is trusted
        alone = SyntheticAwareContrastiveLoss(strategy)(z, labels, torch.ones(8), none)
        assert alone.isfinite() and torch.autograd.grad(alone, z)[0].isfinite().all()
    votes = [{int(labels[(z[:4, v] @ z[i, v]).argmax()]) for v in (0, 1)} for i in range(4, 8)]
    assert [(r >= 0).item() for r in relabel(z, labels, synthetic, none, 'drop')[4:]] == [v == {int(c)} for v, c in zip(votes, labels[4:])]


@pytest.mark.parametrize('synthetic', [False, True])
@pytest.mark.parametrize('kwargs', [dict(strategy=s) for s in STRATEGIES] + [dict(unaware=False), dict(aware=False), dict(prototypes=False)])
def test_a_batch_of_real_images_only_or_of_synthetic_ones_only_of_two_classes_trains(synthetic, kwargs):
    split, net = load_split(), SmallNet(1, 10)
    loss = SAULoss(split, **kwargs)
    loss.attach(net)
    loss.start_epoch(net, 0)
    batch = split.train[split.train.labels < 2][:40]
    loss(net.train(), replace(batch, synthetic=torch.full((40,), synthetic)), rng(0)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters()) and net.body[0].weight.grad.norm() > 0


def test_relabelling_is_counted_epoch_by_epoch_and_changes_nothing():
    split = load_split()
    fake = ImageSet.generated(split.full.images[:300], (split.full.labels[:300] + (torch.arange(300) % 3 == 0)) % 10)   # each third label is wrong
    data, settings = split.train + fake, replace(classifier_settings(split, 'tiny'), steps=25)
    record = Relabelling(10)
    watched = train_classifier(split, data, SAULoss(split, record=record), settings)
    plain = train_classifier(split, data, SAULoss(split), settings)
    for a, b in zip(watched.state_dict().values(), plain.state_dict().values()): assert torch.equal(a, b)
    per_epoch = len(data) // settings.batch_size
    assert record.shares.shape == (math.ceil(25 / per_epoch), 10) and (record.shares <= 1).all()
    assert sum(n.sum() for n in record.seen[:2]) <= 2 * 300 and 0 < sum(n.sum() for n in record.distrusted) <= sum(n.sum() for n in record.seen)
    now = distrusted(watched, SAULoss(split), data)
    assert not now[~data.synthetic].any() and torch.equal(now, distrusted(watched, SAULoss(split), data)) and watched.training is False


def test_separability_of_what_is_apart_and_of_what_is_not():
    a, b = torch.randn(150, 6, generator=rng(0)), torch.randn(150, 6, generator=rng(1))
    synthetic = torch.arange(300) >= 150
    assert .4 < separability(torch.cat([a, b]), synthetic) < .6 and separability(torch.cat([a, b + 5]), synthetic) > .95


def test_saus_paper_size_is_that_of_its_code_and_everything_else_is_everybodys():
    split = load_split()
    assert sau_settings(split, 'small') == (classifier_settings(split, 'small'), Learner('sau'))
    counts = [500] * 100
    photographs = replace(split, train=replace(split.train, images=torch.zeros(len(split.train), 3, 32, 32, dtype=torch.uint8)))
    settings, learner = sau_settings(photographs, 'paper')
    assert (settings.network, settings.width, settings.optimizer, settings.lr, settings.weight_decay, settings.batch_size) == ('ResNet32', 64, 'SGD', .01, 5e-3, 128)
    assert (learner.hidden, learner.dim, settings.steps) == (2048, 128, 200 * 1140 // 128)
    assert study_settings(photographs, 'paper')['classifier']['width'] == 16 and study_settings(photographs, 'paper')['sau']['classifier']['width'] == 64


def test_in_bfloat16_the_loss_is_the_same_within_rounding():
    split, net = load_split(), SmallNet(1, 10)
    loss = SAULoss(split)
    loss.attach(net)
    loss.start_epoch(net, 0)
    batch = split.train[:80]
    exact = loss(net.eval(), batch, rng(0))
    with torch.autocast('cpu', torch.bfloat16): rounded = loss(net, batch, rng(0))
    assert exact.dtype == rounded.dtype == torch.float32 and 0 < abs(exact - rounded) < .02 * exact


@pytest.mark.parametrize('size, share, side', [(8, .25, 2), (28, .25, 7), (32, .5, 16)])
def test_a_hole_has_the_side_that_it_is_said_to_have(size, share, side):
    holes = (cutout(torch.ones(200, 1, size, size), rng(0), share) < 0).sum((1, 2, 3))
    assert holes.max() == side ** 2 and (holes < side ** 2).any()       # clipped at the rim


def test_cutmix_keeps_lambda_of_the_image_where_it_is_not_clipped():
    a, b = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    shares = [cutmix(a, b, .75, rng(i)).mean().item() for i in range(200)]
    assert max(shares) == .25 and a.sum() == 0
    assert cutmix(a, b, 1., rng(0)).sum() == 0


# ---- classifiers

def test_generated_images_weigh_omega():
    net = ResNet32(1, 2).eval()
    batch = ImageSet(torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8, generator=rng(0)), torch.tensor([0, 1, 0, 1]), torch.tensor([False, False, True, True]))
    loss = lambda omega, b=batch: CrossEntropy('none', omega)(net, b, rng(0)).item()
    assert abs(loss(0.) - loss(1., batch[:2]) / 2) < 1e-6
    assert abs(loss(.3) - (loss(0.) + .3 * (loss(1.) - loss(0.)))) < 1e-6


def test_spread():
    assert spread([1., 3.]) == dict(mean=2., std=math.sqrt(2), values=[1., 3.])
    assert spread([5.])['std'] == 0


# ---- views of photographs

@pytest.mark.parametrize('op, m', [('ShearX', .2), ('ShearY', -.1), ('TranslateX', 6.), ('TranslateY', -4.), ('Rotate', 20.), ('Brightness', .4), ('Color', -.4), ('Contrast', .4),
                                   ('Sharpness', .5), ('Posterize', 5.), ('Solarize', 100.), ('AutoContrast', 0.), ('Equalize', 0.), ('Invert', 0.)])
def test_operations_of_auto_augment_are_torchvisions(op, m):
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.autoaugment import _apply_op
    x = F.avg_pool2d(torch.randint(256, (6, 3, 32, 32), generator=rng(0)).float(), 5, 1, 2).to(torch.uint8)
    ours = _operate(op, x, torch.full((6,), m))
    theirs = _apply_op(x, op, int(m) if op == 'Posterize' else m, InterpolationMode.NEAREST, None)
    off = (ours.int() - theirs.int()).abs()
    if op in ('Contrast', 'AutoContrast'): assert off.max() <= 1             # theirs rounds the mean, or the stretched values, another way
    elif op.startswith('Shear'): assert (off > 0).float().mean() < .02      # a pixel exactly between two others
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
    for turn in (-.1, .05, .4): assert torch.allclose(turn_hue(x, torch.full((5,), turn)), TF.adjust_hue(x, turn), atol=1e-5)
    assert torch.allclose(blur(x, rng(1), p=1, low=.8, high=.8), TF.gaussian_blur(x, [3, 3], [.8, .8]), atol=1e-5)
    assert torch.allclose(blur(x, rng(1), p=0), x, atol=1e-5)


# ---- methods without generated images

def test_losses_that_rebalance_are_their_formulas():
    counts = torch.tensor([90., 9., 1.])
    z, y = torch.randn(7, 3, generator=rng(0), dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0, 2])
    p = z.softmax(1)
    ce = [-math.log(p[i, c]) for i, c in enumerate(y)]
    effective = [(1 - .9999 ** n) / (1 - .9999) for n in counts.tolist()]
    w = [3 / e / sum(1 / f for f in effective) for e in effective]
    close = lambda loss, expected, done=0.: np.testing.assert_allclose(loss.criterion(z, y, done).numpy(), expected, rtol=1e-5)
    close(ClassBalanced(counts), [w[c] * l for l, c in zip(ce, y)])
    close(Focal(counts), [(1 - p[i, c].item()) ** 2 * l for i, (l, c) in enumerate(zip(ce, y))])
    close(LogitAdjusted(counts), [-math.log(counts[c] * z[i, c].exp() / (counts * z[i].exp()).sum()) for i, c in enumerate(y)])
    margin = [.5 * n ** -.25 for n in counts.tolist()]      # the rarest class has one image, so 0.5 is its margin
    def ldam(i, c):
        e = [math.exp(z[i, k] - 30 * margin[k] * (k == c)) for k in range(3)]
        return -math.log(e[c] / sum(e))
    close(LDAM(counts), [ldam(i, c) for i, c in enumerate(y)])
    close(LDAM(counts), [w[c] * ldam(i, c) for i, c in enumerate(y)], done=.8)


def test_generated_images_count_omega():
    data = ImageSet(torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 1, 1, 1, 3]), torch.tensor([False, True, True, True, False, False]))
    assert torch.allclose(class_weights(data, 4, .3), torch.tensor([1.3, 1.6, 0., 1.]))


@pytest.fixture(scope='module')
def first():
    split = load_split()
    return train_with('ce', split, split.train, classifier_settings(split, 'tiny'))


def test_retraining_touches_the_head_alone(first):
    split = load_split()
    again = train_with('crt', split, split.train, classifier_settings(split, 'tiny'), first=first)
    for (name, a), b in zip(first.state_dict().items(), again.state_dict().values()): assert torch.equal(a, b) != name.startswith('head.'), name


def test_retraining_sees_all_classes_alike():
    split = load_split()
    data = split.train + ImageSet.generated(split.full.images[:200], split.full.labels[:200])
    retraining = ltnb.rebalancing.ClassifierRetraining(class_weights(data, 10, .3), omega=.3, net=SmallNet(1, 10), data=data)
    by_class = torch.zeros(10).index_add(0, data.labels, retraining._chance)
    assert torch.allclose(by_class, torch.ones(10))


def test_adjusting_afterwards_moves_the_bias_by_the_log_prior_and_leaves_the_first_alone(first):
    split = load_split()
    before = first.head.bias.clone()
    after = Learner(tau=1.).train(split, split.train, classifier_settings(split, 'tiny'), first=first)
    x = split.test.images[:50] / 127.5 - 1
    assert torch.allclose(first(x) - split.prior.log(), after(x), atol=1e-5) and torch.equal(first.head.bias, before)


@pytest.mark.parametrize('method', METHODS)
def test_every_method_trains_on_filled_up_sets_and_an_unknown_one_is_refused(method, first, tmp_path):
    split = load_split()
    settings = replace(classifier_settings(split, 'tiny'), steps=10)
    data = split.train + ImageSet.generated(split.full.images[:200], split.full.labels[:200])
    go = lambda: Learner(method, .3).train(split, data, settings, 1, tmp_path/'net.safetensors', first=first)
    for a, b in zip(go().state_dict().values(), go().state_dict().values()): assert a.isfinite().all() and torch.equal(a, b)
    x, later = split.test.images[:20] / 127.5 - 1, Learner(method, .3, tau=.5).train(split, data, settings, 1, first=go())
    assert torch.allclose(go()(x) - .5 * split.prior.log(), later(x), atol=1e-4)
    with pytest.raises(InputError, match='unknown method'): train_with('sorcery', split, data, settings)


def test_calibration_error():
    sure, unsure = torch.tensor([[20., 0.], [0., 20.]]), torch.zeros(2, 2)
    assert calibration_error(sure, torch.tensor([0, 1])) < 1e-6 and calibration_error(sure, torch.tensor([1, 0])) > .99
    assert abs(calibration_error(unsure, torch.tensor([0, 1]))) < 1e-6 and abs(calibration_error(unsure, torch.tensor([1, 1])) - .5) < 1e-6


def test_a_paired_difference_is_students():
    d = paired_difference([3., 5., 4.], [1., 2., 3.])           # differences 2, 3, 1: mean 2, standard error 1/sqrt(3), t(2) at 97.5 % is 4.3027
    assert abs(d['mean'] - 2) < 1e-9 and abs(d['high'] - 2 - 4.3027 / 3 ** .5) < 1e-3 and abs(d['low'] + d['high'] - 4) < 1e-9 and .05 < d['p'] < .1
    assert paired_difference([1.], [0.]) == dict(mean=1., low=None, high=None, p=None) and paired_difference([1., 2.], [1., 2.])['p'] is None


def test_crops_and_mirror_images_are_parts_of_the_padded_image():
    x = torch.rand(40, 3, 9, 9, generator=rng(0)) * 2 - 1
    padded = F.pad(x, (4,) * 4, value=-1.)
    for image, big in zip(crop_flip(x, rng(1)), padded):
        crops = [big[:, dy:dy + 9, dx:dx + 9] for dy in range(9) for dx in range(9)]
        assert any(torch.equal(image, c) or torch.equal(image, c.flip(2)) for c in crops)


def test_networks_for_larger_images():
    for name, features in dict(ResNet50=2048, ResNeXt50=2048).items():
        for channels in 1, 3:
            net = NETWORKS[name](channels, 7).eval()
            x = torch.rand(2, channels, 64, 64)
            assert net(x).shape == (2, 7) and net.features(x).shape == (2, features) == (2, net.num_features)


def test_views_in_batches_are_five_times_as_fast_as_image_by_image():
    command = [sys.executable, '-c', 'import json, benchmarks.views as b; print(json.dumps(b.measure(1024)))']   # a process of its own: its memory is not used up
    measured = [json.loads(subprocess.check_output(command, cwd=ROOT)) for _ in range(3)]                       # somebody else may take a core for a moment
    assert max(m['times'] for m in measured) > 5, measured


# ---- augmentation

def test_geometric_augmentation_moves_images_as_it_says():
    from ltnb.diffusion import geometric_augment
    x = torch.zeros(400, 1, 16, 16)
    x[:, :, 4:8, 6:10] = 1.
    out, what = geometric_augment(x, rng(0), p=.3)
    center = lambda im: torch.stack([(im * torch.arange(16.)).sum((1, 2, 3)), (im * torch.arange(16.)[:, None]).sum((1, 2, 3))], 1) / im.sum((1, 2, 3))[:, None]
    shifted = (what[:, [1, 2, 3, 4, 5, 6]] == 0).all(1) & (what[:, 0] == 0) & (what[:, 7:].abs() < 1.2).all(1)    # only a shift, and not out of the image
    assert shifted.sum() > 10 and (what[shifted, 7:] != 0).any()
    expected = center(x)[shifted] + what[shifted, 7:] * 16 / 8
    assert torch.allclose(center(out.clamp(min=0))[shifted], expected, atol=.3)
    untouched = (what == 0).all(1)
    assert torch.allclose(out[untouched], x[untouched], atol=1e-5)


def test_the_augmentation_condition_leaves_no_trace_in_what_samples(tmp_path):
    from dataclasses import replace
    from ltnb.diffusion import load_generator, sample, train_generator
    split = load_split()
    settings = replace(generator_settings(split, 'tiny'), steps=4, augment=.5)
    pipe = train_generator(split, settings=settings, path=tmp_path / 'g')
    again = load_generator(tmp_path / 'g')
    assert torch.equal(sample(pipe, torch.arange(3), steps=2), sample(again, torch.arange(3), steps=2))


# ---- presets and samplers

def test_presets_for_cifar_are_the_papers_networks():
    photographs = ImageSet(torch.zeros(10, 3, 32, 32, dtype=torch.uint8), torch.arange(10))
    split = Split('photographs', photographs, photographs, list(range(10)))
    paper, budget = (generator_settings(split, p) for p in ('paper', 'budget'))
    assert (paper.channels, paper.layers, paper.attention, paper.dropout) == ((128, 256, 256, 256), 2, (1,), .1)
    assert (paper.steps, paper.batch_size, paper.lr, paper.warmup, paper.decay, paper.ema) == (300_000, 64, 2e-4, 5000, False, .9999)     # CBDM's README
    assert paper.drop_whole_batch and paper.label_drop == .1 and paper.flip
    assert budget.channels == paper.channels and budget.steps * 50 == paper.steps
    assert study_settings(split, 'paper')['sampling']['guidance'] == dict(ddpm=.8, cbdm=1.6)


@pytest.mark.parametrize('name', SAMPLERS)
def test_every_sampler_draws_the_same_images_again_and_leaves_the_pipeline_alone(name):
    split = load_split()
    pipe = train_generator(split, settings=replace(generator_settings(split, 'tiny'), steps=2))
    before, y = type(pipe.scheduler), torch.arange(4)
    a, b = (sample(with_sampler(pipe, name), y, seed=s, steps=4) for s in (0, 1))
    assert torch.equal(a, sample(with_sampler(pipe, name), y, seed=0, steps=4)) and not torch.equal(a, b)
    assert type(pipe.scheduler) is before and a.shape == (4, 1, 8, 8)
