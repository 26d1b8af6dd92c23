"The exercises in code: their cells say 'Right.' to a right answer, and not to answers that are nearly right."
import json
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT

from ltnb.classifiers import build, classifier_settings, features
from ltnb.core import rng
from ltnb.diffusion import noise_schedule
from ltnb.filtering import FILTERS, NeighbourAgreement
from ltnb.filters import Filter
from ltnb.show import check
from ltnb.sources import load_split
from ltnb.teaching import teaching


def said(capsys, notebook, checker, answer, **names):
    "What the cell of an exercise prints."
    cells = [''.join(c['source']) for c in json.loads((ROOT / f'nbs/{notebook}.ipynb').read_text())['cells']]
    cell, = (c for c in cells if f'check(answer, {checker},' in c)
    exec(cell, dict(answer=answer, check=check, torch=torch, rng=rng, math=math) | names)
    return capsys.readouterr().out.strip().splitlines()[-1]


def recall(real, fake, k=6):
    radius = torch.cdist(fake, fake).sort(1).values[:, k - 1]
    return (torch.cdist(real, fake) < radius).any(1).float().mean().item()


@pytest.mark.parametrize('answer, right', [
    (recall, True), (lambda r, f: recall(r, f, 5), False), (lambda r, f: recall(r, f, 7), False), (lambda r, f: recall(f, r), False)])
def test_recall_in_five_lines(capsys, answer, right):
    assert (said(capsys, '10_collapse', 'is_recall', answer) == 'Right.') == right


def cbdm(a, b, t, T, tau, gamma, first=lambda x: x.detach(), second=lambda x: x.detach()):
    return (tau * t.view(-1, 1, 1, 1) / T * ((a - first(b))**2 + gamma * (second(a) - b)**2)).mean()


@pytest.mark.parametrize('answer, right', [
    (cbdm, True), (lambda *x: cbdm(*x, first=lambda x: x), False), (lambda *x: cbdm(*x, second=lambda x: x), False),
    (lambda a, b, t, *x: cbdm(a, b, t.flip(0), *x), False), (lambda *x: 2*cbdm(*x), False), (lambda *x: -cbdm(*x), False)])
def test_cbdms_loss_from_its_formula(capsys, answer, right):
    assert (said(capsys, '20_cbdm', 'is_cbdm', answer) == 'Right.') == right


def policy(sigma, factor=1.):
    abar = noise_schedule().alphas_cumprod
    return 1 / (1 + factor * (abar - 1 / (1 + sigma**2)).abs().argmin().item() / 1000)


@pytest.mark.parametrize('answer, right', [
    (policy, True), (lambda s: policy(s, 2.), False), (lambda s: 1., False), (lambda s: 1 - .5*(s > 1), False)])
def test_a_policy_of_sampling(capsys, answer, right):
    assert (said(capsys, '25_after', 'is_cbdm_policy', answer, noise_schedule=noise_schedule) == 'Right.') == right


class Cheat(Filter):
    "Has seen the images by which it is judged."
    def __init__(self, features, labels): self.seen = features, labels
    def score(self, features, labels):
        return (self.seen[1][torch.cdist(features, self.seen[0]).argmin(1)] != labels).float()


def test_a_filter_of_ones_own(capsys):
    split = load_split('digits')
    torch.manual_seed(0)
    phi0 = build(split, classifier_settings(split, 'tiny')).eval()
    names = dict(split=split, phi0=phi0, FILTERS=FILTERS, teaching=teaching)
    assert said(capsys, '30_filtering', 'beats_neighbours', Cheat(features(phi0, split.left_out.images), split.left_out.labels), **names) == 'Right.'
    assert 'Not yet' in said(capsys, '30_filtering', 'beats_neighbours', type('Mine', (Filter,), {})(), **names)   # keeps all
    assert 'of your own' in said(capsys, '30_filtering', 'beats_neighbours', NeighbourAgreement(), **names)


def adjusted(z, real, generated, rho, tau): return z - tau * (real + rho * generated).log()


@pytest.mark.parametrize('answer, right', [
    (adjusted, True), (lambda z, r, g, rho, tau: adjusted(z, r, g, rho, -tau), False),
    (lambda z, r, g, rho, tau: adjusted(z, r, g, 0., tau), False), (lambda z, r, g, rho, tau: adjusted(z, r, g, 1., tau), False),
    (lambda *x: F.log_softmax(adjusted(*x), 1), True)])
def test_logits_of_a_filled_training_set(capsys, answer, right):
    assert (said(capsys, '40_sau', 'adjusts', answer) == 'Right.') == right
