"DiffuLT's three kinds of samples, every filter, filled classes and the AID loss, against plain transcriptions."
import math
from itertools import combinations

import pytest
import torch

from ltnb.cbdm import CBDMLoss
from ltnb.classifiers import build, classifier_settings
from ltnb.core import InputError, load_tensors, rng
from ltnb.data import ImageSet
from ltnb.diffusion import generator_settings, noise_schedule, noisy_batch, unet
from ltnb.filling import fill_classes, load_filled, save_filled
from ltnb.between import FILTERS, PrototypeBand
from ltnb.aid import AIDLoss, aid_loss
from ltnb.filter_reports import filter_report
from ltnb.filters import AsMany, Balanced, BalancedNeighbours, Band, Confidence, Filter, NearestPrototype, Quota, Ranked
from ltnb.filtering import DropOOD, NeighbourAgreement, OnlyKind, class_balls, id_aid_ood, plot_kinds
from ltnb.sources import load_split
from ltnb.study import _histogram
from ltnb.training import describe


def test_a_class_with_one_image_and_features_that_are_not_finite():
    real, y = torch.tensor([[0., 0.], [4., 0.], [9., 9.]]), torch.tensor([0, 0, 1])
    fake, asked = torch.tensor([[2., 4.], [2., 8.1], [math.nan, 0.], [9., 9.], [9., 10.],
                                [math.inf, 0.]]), torch.tensor([0, 0, 0, 1, 1, 1])
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
    with pytest.raises(InputError, match='one of ID, AID, OOD'): OnlyKind('IDA')
    with pytest.raises(InputError, match='one of per_class, pooled, shrunk'): class_balls(real, y, 'per class')


class Head(torch.nn.Module):
    "A classifier of the plane: class 0 left of 5, class 1 right of it."
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
    points = dict(copy=[2., 2.], middle=[1., 1.], near=[1., 3.5], far=[1., 6.], farther=[1., 8.], between=[5.6, 1.],
                  theirs=[10., 1.], nothing=[math.nan, 0.])
    # d_f is the diagonal, 2.83; other images of a class are 2 away
    expected = dict(none='copy middle near far farther between theirs', diffult='copy middle near far between',
                    pooled='copy middle near far between',
                    shrunk='copy middle near far between', id='copy middle near', aid='far between',
                    ood='farther theirs nothing',
                    prototype='copy middle near far farther', neighbours='copy middle near far farther',
                    confidence='copy middle near far farther',
                    manifold='copy middle near', band='middle near', agreed='copy middle near far',
                    balanced='copy middle near far farther', balanced_neighbours='copy middle near far farther',
                    ranked='copy middle near far', prototype_band='near far farther between theirs', quota='copy middle near far farther between',
                    as_many='copy middle near far farther')      # the first five, as neighbours keeps five
    asked = torch.zeros(len(points), dtype=torch.long)
    assert expected.keys() == FILTERS.keys()
    for name, right in expected.items():
        kept = FILTERS[name](Head()).fit(real, y).keep(torch.tensor(list(points.values())), asked)
        assert ' '.join(p for p, k in zip(points, kept) if k) in (right,
                                                                  f'{right} nothing' if name == 'none' else right), name


def test_a_filter_of_a_class_with_one_image_keeps_a_copy_and_drops_what_is_of_another_class():
    real, y = torch.tensor([[0., 0.], [2., 0.], [0., 2.], [9., 1.]]), torch.tensor([0, 0, 0, 1])
    fake = torch.tensor([[9., 1.], [0., .1], [math.inf, 0.]])
    for name, make in FILTERS.items():
        kept = make(Head()).fit(real, y).keep(fake, torch.ones(3, dtype=torch.long)).tolist()
        if name in ('aid', 'ood', 'band', 'prototype_band'): assert not kept[0], name      # a copy is ID, and bands drop copies
        elif name != 'none': assert kept == [True, False, False], name


def test_equal_images_of_a_class_have_the_usual_distance_of_all_classes():
    real, y = torch.tensor([[0., 0.], [0., 0.], [9., 1.], [9., 2.], [9., 3.]]), torch.tensor([0, 0, 1, 1, 1])
    assert Band().fit(real, y).keep(torch.tensor([[0., 0.], [0., 1.], [0., 3.]]), torch.zeros(3, dtype=torch.long)).tolist() == [False, True, False]


def test_the_histogram_has_samples_of_a_class_with_one_image():
    import matplotlib.pyplot as plt
    relative = torch.tensor([0., 1.5, 2.5, math.inf, math.inf, math.nan])
    said = [t.get_text() for t in plot_kinds(relative).get_legend().get_texts()]
    plt.close('all')
    assert said == ['ID 20%', 'AID 20%', 'OOD 60%'] and sum(_histogram(relative)['counts']) == 5


def test_the_nearest_prototype_of_a_sample_is_the_same_whatever_else_is_in_the_batch():
    x = 10 + .1 * torch.randn(200, 64, generator=rng(0))
    f, y = NearestPrototype().fit(x, torch.arange(200) % 10), torch.arange(200) % 10
    alone = torch.cat([f.score(x[i:i + 1], y[i:i + 1]) for i in range(200)])
    torch.testing.assert_close(f.score(x, y), alone, rtol=1e-6, atol=0)


def test_a_batch_may_be_empty_or_hold_nothing_that_is_finite():
    real, y = torch.tensor([[0., 0.], [2., 0.], [9., 1.]]), torch.tensor([0, 0, 1])
    for name, make in FILTERS.items():
        f = make(Head()).fit(real, y)
        assert f.keep(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)).tolist() == [], name
        lost = f.keep(torch.full((3, 2), math.nan), torch.tensor([0, 1, 1]))
        assert lost.dtype == torch.bool and lost.tolist() == [name in ('none', 'ood')] * 3, name


def test_a_balanced_judge_takes_the_prior_out_of_the_probability():
    g = rng(5)
    real, y = torch.randn(100, 2, generator=g), (torch.arange(100) >= 90).long()
    fake, asked = torch.randn(50, 2, generator=g) + torch.tensor([5., 0.]), torch.arange(50) % 2
    p = (Head().head(fake).double().exp() / torch.tensor([.9, .1])).detach()
    p = (p / p.sum(1, keepdim=True))[torch.arange(50), asked]
    plain, balanced = Confidence(Head().head), Balanced(Head().head)
    for _ in range(2):      # fitted again it is the same
        assert torch.allclose(1 - balanced.fit(real, y).score(fake, asked).double(), p, atol=1e-5)
    assert balanced.keep(fake, asked).tolist() == (p >= .5).tolist()
    more = balanced.keep(fake, asked).long() - plain.fit(real, y).keep(fake, asked).long()
    assert more[asked == 1].sum() > 0 > more[asked == 0].sum()      # more of the rare class, less of the common one


def test_balanced_neighbours_are_those_of_all_thinnings_on_average():
    g = rng(6)
    counts = (7, 3, 4)
    y = torch.arange(3).repeat_interleave(torch.tensor(counts))
    real, fake, asked = torch.randn(14, 3, generator=g), torch.randn(5, 3, generator=g), torch.tensor([0, 1, 2, 1, 0])
    def usual(x, c):    # distance to the nearest of 3 images of class c, over all ways to choose these
        d = (real[y == c] - x).norm(dim=1).tolist()
        return sum(map(min, combinations(d, 3))) / math.comb(counts[c], 3)
    expected = [usual(x, c) / min(usual(x, o) for o in range(3) if o != c) for x, c in zip(fake, asked.tolist())]
    assert torch.allclose(BalancedNeighbours().fit(real, y).score(fake, asked), torch.tensor(expected))


def test_among_many_images_one_is_near_by_chance_and_balanced_neighbours_allow_for_that():
    g = rng(7)
    real, y = torch.randn(405, 4, generator=g), (torch.arange(405) >= 400).long()    # nothing tells the classes apart
    fake, asked = torch.randn(400, 4, generator=g), torch.ones(400, dtype=torch.long)
    kept = lambda f: f.fit(real, y).keep(fake, asked).float().mean()
    assert kept(NeighbourAgreement()) < .05 and .35 < kept(BalancedNeighbours()) < .65


def made_up(n=120):
    "Real images of three classes on a line, and samples all about: some not finite, none of class 2 near its own."
    g = rng(8)
    real, y = torch.randn(30, 2, generator=g) + 6 * (torch.arange(30) % 3)[:, None], torch.arange(30) % 3
    asked = torch.randint(3, (n,), generator=g)
    fake = torch.randn(n, 2, generator=g) * 3 + 6 * (asked % 2)[:, None]
    fake[::10] = math.nan
    return real, y, fake, asked


@pytest.mark.parametrize('share', [.1, .5, .9])
def test_the_best_share_of_each_class_is_kept_whatever_else_is_in_the_batch(share):
    real, y, fake, asked = made_up()
    f = Ranked(NearestPrototype(), share).fit(real, y)
    kept, score = f.keep(fake, asked), NearestPrototype().fit(real, y).score(fake, asked)
    for c in range(3):
        mine = asked == c
        best = score[mine].sort().values[:int(mine.sum() * share + 1e-6)]
        best = best[best.isfinite()]
        assert sorted(score[mine & kept].tolist()) == best.tolist()
        assert torch.equal(f.keep(fake[mine], asked[mine]), kept[mine])     # as a further round asks for it
    assert Ranked(Filter(), share).keep(torch.zeros(20, 2), torch.arange(20) % 2).sum() == 2 * int(10 * share)
    assert not Ranked(Filter()).keep(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))       # at most a half of one


def test_a_quota_is_all_that_is_accepted_and_no_more_doubt_than_its_share():
    real, y, fake, asked = made_up()
    accepts, by = NeighbourAgreement().fit(real, y).keep(fake, asked), NearestPrototype().fit(real, y).score(fake, asked)
    for share in .1, .25, .5:
        kept = Quota(NeighbourAgreement(), NearestPrototype(), share).fit(real, y).keep(fake, asked)
        assert kept[accepts].all() and not kept[~fake.isfinite().all(1)].any()
        for c in range(3):
            doubted, n = by[(asked == c) & ~accepts].sort().values, int((accepts & (asked == c)).sum())
            r = max(r for r in range(len(doubted)) if r <= share * (n + r) + 1e-6)
            best = doubted[:r][doubted[:r].isfinite()]
            assert sorted(by[(asked == c) & kept & ~accepts].tolist()) == best.tolist()
    assert kept[(asked == 0) & ~accepts].any()
    assert accepts[asked == 2].sum() == 0 and not kept[asked == 2].any()       # of nothing there is no share


def test_the_control_keeps_as_many_of_each_class_as_its_judge_and_does_not_look():
    real, y, fake, asked = made_up()
    judge = NeighbourAgreement()
    n = torch.bincount(asked[judge.fit(real, y).keep(fake, asked)], minlength=3)
    kept = AsMany(judge).fit(real, y).keep(fake, asked)
    assert torch.equal(torch.bincount(asked[kept], minlength=3), n) and 0 < n.sum() < len(asked)
    assert not torch.equal(kept, judge.keep(fake, asked)) and not kept[~fake.isfinite().all(1)].any()
    for c in range(3):      # the first ones
        mine = kept[(asked == c) & fake.isfinite().all(1)]
        assert mine[:n[c]].all() and not mine[n[c]:].any()


def test_a_filter_made_of_others_fits_copies_of_them_and_says_which_they_are():
    real, y, *_ = made_up()
    by, judge = NearestPrototype(), NeighbourAgreement()
    f = Quota(judge, by).fit(real, y)
    assert not hasattr(by, 'means') and not hasattr(judge, 'real') and f.by.means.shape == (3, 2)
    assert repr(f) == 'Quota(judge=NeighbourAgreement(k=1), by=NearestPrototype(), threshold=0.25)'
    assert repr(f) != repr(Quota(NeighbourAgreement(3), NearestPrototype()))    # a run tells its filters apart by this


def test_a_class_that_cannot_be_filled():
    split = load_split('digits')
    samples = ImageSet.generated(torch.zeros(40, 1, 8, 8, dtype=torch.uint8), torch.full((40,), 9))
    filled = fill_classes(split, samples, torch.arange(40) < 25)
    assert filled.data.counts(10)[9] == 30 and filled.missing[9] == 84 and filled.missing[1] == 114 - 81
    assert 0 not in filled.missing
    assert filled.data.synthetic.sum() == 25 and not filled.data[:len(split.train)].synthetic.any()


def test_classes_are_filled_in_rounds_and_one_that_cannot_be_is_left(tmp_path):
    split, asked = load_split('digits'), []

    def more(labels, first):
        asked.append((first, torch.bincount(labels, minlength=10).tolist()))
        s = ImageSet.generated(torch.full((len(labels), 1, 8, 8), len(asked), dtype=torch.uint8), labels)
        return s, (labels != 9) & (torch.arange(len(s)) % 2 == 0)       # every other one is kept, of class 9 none

    empty = ImageSet.generated(torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    filled = fill_classes(split, empty, more=more, rounds=6)
    lack = 114 - split.counts[9]
    assert filled.data.counts(10) == [114] * 9 + [split.counts[9]] and filled.missing == {9: lack}
    assert filled.rounds == 6
    # nothing is known of the rate yet: ten times what is missing
    assert asked[0] == (0, [10 * (114 - n) for n in split.counts])
    # numbers go on, and only what is missing is asked for
    assert asked[1] == (sum(asked[0][1]), [0] * 9 + [10 * lack])
    assert filled.generated[9] == 60 * lack and filled.accepted[9] == 0
    save_filled(tmp_path / 'filled.safetensors', filled, dict(of='these'))
    again = load_filled(tmp_path / 'filled.safetensors', split)
    assert repr(again) == repr(filled) and again.data.sha256 == filled.data.sha256 and again.missing == filled.missing
    assert load_tensors(tmp_path / 'filled.safetensors')[1]['of'] == 'these'
    only_few = fill_classes(split, empty, target=[0] * 6 + [20] * 4, more=more, rounds=1)
    assert only_few.data.counts(10)[:6] == split.counts[:6] and set(only_few.missing) == {9}


def test_a_filled_set_is_made_of_the_first_that_are_kept_class_by_class():
    split, g = load_split('digits'), rng(3)
    def drawn(n):
        s = ImageSet.generated(torch.randint(256, (n, 1, 8, 8), generator=g).to(torch.uint8), torch.randint(10, (n,), generator=g))
        return s, torch.rand(n, generator=g) < .6
    first, rounds = drawn(3000), [drawn(2000), drawn(1500)]      # more than are copied at a time
    filled = fill_classes(split, *first, target=[0, *[350]*9], more=lambda labels, n, left=iter(rounds): next(left), rounds=2)
    kept = [s[keep] for s, keep in (first, *rounds)]
    plain = split.train
    for c in range(1, 10): plain = plain + (kept[0] + kept[1] + kept[2]).of_class(c)[:350 - split.counts[c]]
    assert filled.rounds == 2 and filled.data.sha256 == plain.sha256 and len(plain) > len(split.train) + 2500


def test_scores_of_many_samples_are_those_of_each():
    g = rng(0)
    real, y = torch.randn(60, 5, generator=g), torch.arange(60) % 6
    f, labels = torch.randn(9000, 5, generator=g), torch.randint(6, (9000,), generator=g)    # more than two parts
    f[5] = math.nan
    head = torch.nn.Linear(5, 6)
    for flt in NearestPrototype(), Confidence(head), DropOOD():
        whole, some = flt.fit(real, y).score(f, labels), torch.arange(0, 9000, 451)
        assert torch.allclose(whole[some], torch.cat([flt.score(f[i:i+1], labels[i:i+1]) for i in some]), atol=1e-5)
        assert len(whole) == 9000 and not flt.keep(f, labels)[5] and 0 < flt.keep(f, labels).float().mean() < 1


def test_a_report_with_an_image_that_is_not_finite_and_a_class_without_samples():
    split = load_split('digits')
    samples = ImageSet.generated(split.train.images[:300], split.train.labels[:300])      # none of the rarest classes
    phi = lambda images: torch.where((images == split.train.images[0]).all((1, 2, 3))[:, None], math.nan,
                                     images.flatten(1).float())
    r = filter_report(split, samples, phi, FILTERS['neighbours'](None))
    assert r.kinds[0] == 2 and not r.kept[0] and r.kept[200] and r.summary()['label_purity_after'] is None
    last = r.table()[-1]
    assert last['generated'] == 0 and last['id'] is None and '–' in r._repr_markdown_()
    assert len(r.figure().subfigs) == 2


def test_the_gradient_of_the_aid_loss_is_the_numerical_one():
    g = rng(0)
    still, moved = (torch.randn(6, 4, generator=g, dtype=torch.float64) for _ in range(2))
    abar, d_f = torch.linspace(.9999, .001, 6, dtype=torch.float64), torch.rand(6, generator=g,
                                                                                dtype=torch.float64) + .5
    moved.requires_grad_()
    T = 4.036e-5
    for bound in 1., 10., math.inf:      # on the factor; without one it is the paper's formula
        assert torch.autograd.gradcheck(lambda m: aid_loss(still, m, abar, d_f, largest=bound), (moved,))
        expected = sum(.1 * (min(bound, ((1 - T) / (1 - a)) ** .5) * (s - m).norm().item() - 1.5 * d) ** 2 for s, m, a,
                       d in zip(still, moved, abar.tolist(), d_f.tolist())) / 6
        assert abs(aid_loss(still, moved, abar, d_f, largest=bound).item() / expected - 1) < 1e-8
    at_zero = still.clone().requires_grad_()
    assert torch.autograd.grad(aid_loss(still, at_zero, abar, d_f), at_zero)[0].isfinite().all()     # nothing has moved


@pytest.mark.parametrize('relative', [False, True])
def test_the_aid_loss_is_added_to_the_base_and_reaches_the_generator_alone(relative):
    split = load_split('digits')
    settings, phi = generator_settings(split, 'tiny'), build(split, classifier_settings(split, 'tiny'))
    loss = AIDLoss(split, phi, CBDMLoss(split.prior), alpha=.2, largest=10., relative=relative)
    assert phi.training and all(p.requires_grad for p in phi.parameters())      # the caller's classifier is left as it is
    phi.eval()
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
    assert all(p.grad is None for p in loss.phi.parameters()) and net.conv_out.weight.grad.abs().max() > 0
    about = describe(loss)
    assert about['base'] == describe(CBDMLoss(split.prior)) and about['alpha'] == .2 and len(about['phi']) == 64


def test_neighbours_of_noise_agree_by_chance():
    "Fifty thousand samples, their seconds and memory are measured in benchmarks/quick.py."
    real, fake = torch.randn(1000, 256, generator=rng(0)), torch.randn(5000, 256, generator=rng(1))
    kept = FILTERS['agreed'](None).fit(real, torch.arange(1000) % 10).keep(fake, torch.arange(5000) % 10)
    assert .08 < kept.float().mean() < .12


def test_the_band_around_a_prototype_keeps_what_is_as_far_from_it_as_most_real_images():
    "Class 0 has directions from -20 to 20 degrees and one at 80, an outlier; class 1 three of about 90, which takes the band of all."
    def at(*degrees): return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])
    angles = [*range(-20, 21), 80]
    real, y = torch.cat([at(*angles), 3*at(88, 90, 92)]), torch.tensor([0]*42 + [1]*3)
    f = PrototypeBand().fit(real, y)
    center = math.degrees(math.atan2(f.prototypes[0, 1], f.prototypes[0, 0]))
    own = torch.tensor(sorted(1 - math.cos(math.radians(a - center)) for a in angles))[:-1]      # less the outlier
    assert torch.allclose(f.bands[0], torch.stack([own.quantile(.05), own.quantile(.95)]), atol=1e-5)
    fake = torch.cat([5*at(center, center + 3, center + 10, center - 15, center + 30), torch.tensor([[math.nan, 0.]])])
    assert f.keep(fake, torch.zeros(6, dtype=torch.long)).tolist() == [False, True, True, True, False, False]
    assert f.bands[1, 1] > f.bands[1, 0] and torch.equal(f.keep(3*at(90.), torch.ones(1, dtype=torch.long)), torch.tensor([False]))
    assert torch.allclose(f.score(at(center), torch.tensor([0])), -f.bands[0, 0] / (f.bands[0, 1] - f.bands[0, 0]), atol=1e-3)
