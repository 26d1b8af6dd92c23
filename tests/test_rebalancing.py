"What the field does with the images that are there: losses that are their formulas, and cRT."
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ltnb.classifiers import CrossEntropy, classifier_settings
from ltnb.core import InputError, rng
from ltnb.data import ImageSet
from ltnb.rebalancing import LDAM, METHODS, ClassBalanced, Focal, LogitAdjusted, class_weights, train_with
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
    split = load_split()
    return train_with('ce', split, split.train, classifier_settings(split, 'tiny'))


def test_retraining_touches_the_head_alone(first):
    split = load_split()
    again = train_with('crt', split, split.train, classifier_settings(split, 'tiny'), first=first)
    for (name, a), b in zip(first.state_dict().items(), again.state_dict().values()):
        assert torch.equal(a, b) != name.startswith('head.'), name


def test_retraining_sees_all_classes_alike(monkeypatch):
    seen, split = {}, load_split()
    monkeypatch.setattr('ltnb.rebalancing.train_classifier', lambda *args, **kwargs: seen.update(kwargs, loss=args[2]))
    data = split.train + ImageSet.generated(split.full.images[:200], split.full.labels[:200])
    first = object()
    train_with('crt', split, data, omega=.3, first=first)
    by_class = torch.zeros(10).index_add(0, data.labels, seen['chance'])
    assert torch.allclose(by_class, torch.ones(10)) and seen['frozen'] is first
    assert torch.allclose(seen['chance'][data.synthetic], .3 / class_weights(data, 10, .3)[data.labels[data.synthetic]])
    assert seen['loss'] == CrossEntropy(augment='affine')       # `omega` is in the chance: all weigh 1


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
    for a, b in zip(go().state_dict().values(), go().state_dict().values()):
        assert a.isfinite().all() and torch.equal(a, b)
    x, later = split.test.images[:20] / 127.5 - 1, Learner(method, .3, tau=.5).train(split, data, settings, 1,
                                                                                     first=go())
    assert torch.allclose(go()(x) - .5 * split.prior.log(), later(x), atol=1e-4)
    with pytest.raises(InputError, match='unknown method'): train_with('sorcery', split, data, settings)
