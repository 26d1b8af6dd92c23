"What the field does with the images that are there: losses that are their formulas, and cRT."
import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ltnb.classifiers import CrossEntropy, classifier_settings
from ltnb.core import InputError, rng
from ltnb.data import ImageSet
from ltnb.rebalancing import (LDAM, METHODS, ClassBalanced, Focal, LogitAdjusted, adjust, adjusted, class_weights,
                              fit_rho, log_prior, train_with)
from ltnb.sources import load_split
from ltnb.specs import Learner


def test_losses_that_rebalance_are_their_formulas():
    counts = torch.tensor([90., 9., 1.])
    z, y = torch.randn(7, 3, generator=rng(0), dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0, 2])
    p = z.softmax(1)
    ce = [-math.log(p[i, c]) for i, c in enumerate(y)]
    effective = [(1 - .9999 ** n) / (1 - .9999) for n in counts.tolist()]
    w = [3 / e / sum(1 / f for f in effective) for e in effective]
    close = lambda loss, expected, done=0.: np.testing.assert_allclose(loss.criterion(z, y, done).numpy(), expected,
                                                                       rtol=1e-5)
    close(ClassBalanced(counts), [w[c] * l for l, c in zip(ce, y)])
    close(Focal(), [(1 - p[i, c].item()) ** 2 * l for i, (l, c) in enumerate(zip(ce, y))])
    close(LogitAdjusted(counts), [-math.log(counts[c] * z[i, c].exp() / (counts * z[i].exp()).sum()) for i,
                                  c in enumerate(y)])
    margin = [.5 * n ** -.25 for n in counts.tolist()]      # the rarest class has one image, so 0.5 is its margin
    def ldam(i, c):
        e = [math.exp(z[i, k] - 30 * margin[k] * (k == c)) for k in range(3)]
        return -math.log(e[c] / sum(e))
    close(LDAM(counts), [ldam(i, c) for i, c in enumerate(y)])
    close(LDAM(counts), [w[c] * ldam(i, c) for i, c in enumerate(y)], done=.8)


def test_what_a_loss_makes_of_the_counts_can_be_read():
    counts = torch.tensor([81., 16., 1.])
    assert ClassBalanced(counts).weights.mean() == pytest.approx(1) and LDAM(counts).margins.max() == .5
    torch.testing.assert_close(LDAM(counts).margins, .5 * torch.tensor([1 / 3, 1 / 2, 1.]))
    torch.testing.assert_close(LogitAdjusted(counts, tau=2.).shift, 2 * (counts / 98).log())
    with pytest.raises(TypeError): CrossEntropy('none', .3)     # by keyword only


def test_generated_images_count_omega():
    data = ImageSet(torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 1, 1, 1, 3]),
                    torch.tensor([False, True, True, True, False, False]))
    assert torch.allclose(class_weights(data, 4, .3), torch.tensor([1.3, 1.6, 0., 1.]))


@pytest.fixture(scope='module')
def first():
    split = load_split('digits')
    return train_with('ce', split, split.train, classifier_settings(split, 'tiny'))


def test_retraining_touches_the_head_alone(first):
    split = load_split('digits')
    again = train_with('crt', split, split.train, classifier_settings(split, 'tiny'), first=first)
    for (name, a), b in zip(first.state_dict().items(), again.state_dict().values()):
        assert torch.equal(a, b) != name.startswith('head.'), name


def test_retraining_trains_its_first_classifier_as_it_is_told_to(monkeypatch):
    told, split = [], load_split('digits')
    monkeypatch.setattr('ltnb.rebalancing.train_classifier', lambda *args, **kwargs: told.append(kwargs))
    train_with('crt', split, split.train, device='cpu', save_every=5)
    assert [(k['device'], k['save_every']) for k in told] == [('cpu', 5)] * 2


def test_a_focal_loss_below_one_has_a_gradient_and_a_head_without_bias_can_be_adjusted(first):
    z = torch.tensor([[200., 0.]], requires_grad=True)
    Focal(gamma=.5).criterion(z, torch.tensor([0]), 0).sum().backward()
    assert z.grad.isfinite().all()
    split, plain = load_split('digits'), deepcopy(first)
    plain.head.bias = None
    x = split.test.images[:9] / 127.5 - 1
    with torch.no_grad(): assert torch.allclose(adjusted(plain, split.counts)(x), plain(x) - split.prior.log(), atol=1e-5)


def test_retraining_sees_all_classes_alike(monkeypatch):
    seen, split = {}, load_split('digits')
    monkeypatch.setattr('ltnb.rebalancing.train_classifier', lambda *args, **kwargs: seen.update(kwargs, loss=args[2]))
    data = split.train + ImageSet.generated(split.full.images[:200], split.full.labels[:200])
    first = object()
    train_with('crt', split, data, omega=.3, first=first)
    by_class = torch.zeros(10).index_add(0, data.labels, seen['chance'])
    assert torch.allclose(by_class, torch.ones(10)) and seen['frozen'] is first
    assert torch.allclose(seen['chance'][data.synthetic], .3 / class_weights(data, 10, .3)[data.labels[data.synthetic]])
    assert seen['loss'] == CrossEntropy(augment='affine')       # `omega` is in the chance: all weigh 1


def test_adjusting_afterwards_moves_the_bias_by_the_log_prior_and_leaves_the_first_alone(first):
    split = load_split('digits')
    before = first.head.bias.clone()
    after = Learner(tau=1.).train(split, split.train, classifier_settings(split, 'tiny'), first=first)
    x = split.test.images[:50] / 127.5 - 1
    assert torch.allclose(first(x) - split.prior.log(), after(x), atol=1e-5) and torch.equal(first.head.bias, before)


@pytest.mark.parametrize('method', METHODS)
def test_every_method_trains_on_filled_up_sets_and_an_unknown_one_is_refused(method, first, tmp_path):
    split = load_split('digits')
    settings = replace(classifier_settings(split, 'tiny'), steps=10)
    data = split.train + ImageSet.generated(split.full.images[:200], split.full.labels[:200])
    go = lambda: Learner(method, .3).train(split, data, settings, 1, tmp_path/'net.safetensors', first=first)
    for a, b in zip(go().state_dict().values(), go().state_dict().values()):
        assert a.isfinite().all() and torch.equal(a, b)
    x, later = split.test.images[:20] / 127.5 - 1, Learner(method, .3, tau=.5).train(split, data, settings, 1,
                                                                                     first=go())
    assert torch.allclose(go()(x) - .5 * split.prior.log(), later(x), atol=1e-4)
    with pytest.raises(InputError, match='unknown method'): train_with('sorcery', split, data, settings)


def test_adjusted_logits_and_an_adjusted_network_agree(first):
    split, counts = load_split('digits'), torch.linspace(90., .5, 10)
    x = split.test.images[:50] / 127.5 - 1
    for tau in 0., .5, 1., 2.:
        z = adjust(first(x), counts, tau)
        torch.testing.assert_close(z, first(x) - tau * (counts / counts.sum()).log())
        torch.testing.assert_close(adjusted(first, counts, tau)(x), z)
    assert torch.equal(log_prior(counts, 2.), LogitAdjusted(counts, tau=2.).shift)
    z = first(x)
    torch.testing.assert_close(adjust(z + log_prior(counts), counts), z)       # takes off what training adds
    for of in adjust, LogitAdjusted:
        with pytest.raises(InputError, match='class 3 has no image that counts'):
            of(*[torch.zeros(1, 4)] * (of is adjust), counts=torch.tensor([3., 1., 2., 0.]))


def filled_up(real, generated):
    "A training set of so many real and generated images of each class."
    labels = torch.arange(len(real)).repeat(2).repeat_interleave(torch.tensor([*real, *generated]))
    images, synthetic = torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), torch.arange(len(labels)) >= sum(real)
    return ImageSet(images, labels, synthetic)


@pytest.mark.parametrize('rho', [0, .01, .02, .05, .1, .2, .5, 1.])
def test_fit_rho_finds_the_prior_of_logits_that_is_known(rho):
    data = filled_up([900, 90, 9, 1], [0, 810, 891, 1500])
    # Gaussian classes 2.5 apart from the origin; more images of the common ones, none of the last: that says nothing
    y = torch.arange(3).repeat_interleave(torch.tensor([9000, 3000, 1500]))
    x = 2.5 * F.one_hot(y, 4) + torch.randn(len(y), 4, generator=rng(0))
    counts = torch.tensor([900., 90 + 810 * rho, 9 + 891 * rho, 1 + 1500 * rho])
    z = 2.5 * x + counts.log() + 3.     # log likelihood + log prior + a constant
    assert fit_rho(z, y, data, 4) == rho
    assert fit_rho(z, y, data, 4, grid=(.3, rho)) == rho


def test_fit_rho_weighs_classes_alike_and_says_what_it_cannot_use():
    data = filled_up([90, 9], [0, 81])
    # logits that know nothing of the image, and ten times as many images of class 0: each class counts a half
    y, z = torch.tensor([0] * 100 + [1] * 10), torch.tensor([[90., 9 + 81 * .2]]).log().expand(110, 2)
    assert fit_rho(z, y, data, 2) == .2
    assert fit_rho(z, y, filled_up([90, 9], [0, 0]), 2) == 0       # nothing generated: all alike, the first
    for bad in (z[:0], y[:0]), (z, y[:9]), (z[:, :1], y):
        with pytest.raises(InputError, match='one row a label'): fit_rho(*bad, data, 2)
    with pytest.raises(InputError, match='class 1 has no image that counts'):
        fit_rho(z, y, filled_up([9, 0], [0, 9]), 2)


def test_rho_is_what_a_generated_image_counts_in_the_prior_and_omega_what_it_weighs(monkeypatch):
    seen, split = [], load_split('digits')
    monkeypatch.setattr('ltnb.rebalancing.train_classifier',
                        lambda split, data, loss, *args, **kwargs: seen.append((loss, kwargs)))
    data = split.train + ImageSet.generated(split.full.images[:200], split.full.labels[:200])
    def go(method, **kwargs):
        train_with(method, split, data, omega=.3, first=object(), **kwargs)
        return seen.pop()
    for method in 'la', 'cb', 'ldam':
        loss = go(method, rho=.05)[0]
        assert torch.equal(loss.counts, class_weights(data, 10, .05)) and loss.omega == .3
        for usual in go(method)[0], go(method, rho=.3)[0]: assert torch.equal(usual.counts, class_weights(data, 10, .3))
        assert torch.equal(go(method, rho=0)[0].counts, torch.tensor(split.counts).float())     # 0 is not None
    for method in 'ce', 'focal': assert go(method, rho=.05)[0] == go(method)[0]
    assert torch.equal(go('crt', rho=.05)[1]['chance'], go('crt')[1]['chance'])
