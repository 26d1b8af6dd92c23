"Rows of classifiers: what is chosen is chosen on left-out images, and both figures are given."
from dataclasses import replace

import pytest
import torch

from ltnb import rows
from ltnb.classifiers import accuracy_figures, logits
from ltnb.rebalancing import adjust
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.specs import REAL, TAUS, Learner


def best_at(best, rho=.1, test=2.):
    "A classifier of ten classes that is best on left-out images at the tau `best`, on the test images at `test`."
    at = lambda best: [[[90. - 10*abs(tau - best) + c for c in range(10)], .1 * tau] for tau in TAUS]
    return dict(rho=rho, published=[[50.]*10, .9], left_out=at(best), test=at(test))


def test_tau_is_the_best_of_the_mean_over_all_draws_and_seeds():
    draws = [[[best_at(.5), best_at(.5, .3)]], [[best_at(1.), best_at(1.)]], [[best_at(1.), best_at(1.)]]]
    means = [sum(90 - 10*abs(tau - best) for best in (.5, .5, 1., 1., 1., 1.)) for tau in TAUS]
    assert rows.chosen_tau(draws) == dict(tau=TAUS[means.index(max(means))], rho=round(.8 / 6, 4)) == dict(tau=1., rho=.1333)
    assert rows.chosen_tau(draws[:1])['tau'] == .5
    nan = best_at(.5)
    for accuracies, _ in nan['left_out']: accuracies[3] = float('nan')     # a class that no left-out image has
    assert rows.chosen_tau([[[nan]]])['tau'] == .5


def test_a_row_has_the_figures_of_the_chosen_tau_and_beside_them_the_published_ones():
    split = load_split('digits')
    draws = [[[best_at(.5), best_at(.5)], [best_at(.5), best_at(.5)]], [[best_at(.5, test=1.)]*2]*2]
    plain, row = (rows.tested_figures(split, Learner(tau=tau), draws) for tau in (0., 1.))
    assert 'chosen' not in plain['few'] and plain['few']['values'] == [50]*4 and plain['ece']['mean'] == pytest.approx(.9)
    # few: classes 6 to 9; at tau = .5, 1.5 or .5 away from what is best on the test images of the draws
    assert row['few']['values'] == [90 - 15 + 7.5]*2 + [90 - 5 + 7.5]*2 and row['ece']['mean'] == pytest.approx(.05)
    for k in 'accuracy', 'worst', 'many', 'medium', 'few', 'ece':
        assert row[k]['chosen'] == dict(tau=.5, rho=.1) and row[k]['published'] == plain[k]
    assert len(row['per_class']) == 10
    for draw in draws:
        for one in sum(draw, []): one.pop('left_out', None)
    assert rows.tested_figures(split, Learner(tau=1.), draws) == plain       # there is nothing to choose by


def test_real_images_that_were_trained_on_are_not_judged_by_what_has_learnt_them(tmp_path):
    run = Run(load_split('digits'), tmp_path, 'tiny')
    figures = rows.floor_figures(run)
    for of in figures['overall'], figures['few'], *figures['per_class']:
        assert of['memorised'] is of['class_consistency'] is None and of['recall'] is not None


def test_the_choice_does_not_look_at_the_test_images(tmp_path):
    split = load_split('digits')
    other = replace(split, test=replace(split.test, labels=(split.test.labels + 1) % 10))
    key, ways = (REAL, Learner(tau=1.), None, 0), []
    for name, s in dict(a=split, b=other).items():
        run = Run(s, tmp_path / name, 'tiny')
        ways.append(run.tested(*key))
    right, wrong = ways
    assert repr(wrong['left_out']) == repr(right['left_out']) and wrong['rho'] == right['rho'] == 0     # with NaN in it
    assert wrong['test'] != right['test']
    chosen = rows.chosen_tau([[[right]]])
    assert chosen == rows.chosen_tau([[[wrong]]])
    # and by hand, from the classifier itself
    net = Run(split, tmp_path / 'a', 'tiny').trained(REAL, Learner(), None, 0)
    left, counts = split.left_out, torch.tensor(split.counts)
    def mean_accuracy(images, tau):
        right = adjust(logits(net, images.images), counts, tau).argmax(1) == images.labels
        return [100 * right[images.labels == c].float().mean().item() for c in range(10)]
    seen = sorted(set(left.labels.tolist()))
    best = max(TAUS, key=lambda tau: round(sum(mean_accuracy(left, tau)[c] for c in seen), 3))
    assert chosen['tau'] == best
    for tau, (accuracies, _) in zip(TAUS, right['test']): assert accuracies == pytest.approx(mean_accuracy(split.test, tau))
    assert right['published'] == right['test'][TAUS.index(1.)]      # real images alone: the same prior
    figures = accuracy_figures(split, torch.tensor([right['test'][TAUS.index(best)][0]]))
    assert rows.tested_figures(split, Learner(tau=1.), [[[right]]])['few']['values'] == figures['few']['values']
