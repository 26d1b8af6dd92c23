"SAU's losses against plain transcriptions of them, value and gradient, and their edge cases."
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ltnb.augment import cutmix, sau_views
from ltnb.classifiers import SmallNet, classifier_settings, train_classifier
from ltnb.core import InputError, rng
from ltnb.data import ImageSet
from ltnb.sau import STRATEGIES, SAULoss, SyntheticAwareContrastiveLoss, relabel
from ltnb.sources import load_split
from ltnb.training import Watch
from ltnb.trust import Relabelling, distrusted, separability


def slow_contrastive(z, labels, synthetic, prototypes, strategy, temperature=.1):
    "SAU's loss with loops, from its description: vote, relabel, then supervised contrast over two views."
    C = len(prototypes)
    entries = [(z[i], int(labels[i])) for i in range(len(z)) if not synthetic[i]] + [(prototypes[c], c)
                                                                                     for c in range(C)]
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
    # class 3 is in no image of the batch
    prototypes = .4 * torch.randn(4, 2, 5, generator=g, dtype=torch.float64)
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
    with pytest.raises(InputError, match='from 0 to 2'):
        SyntheticAwareContrastiveLoss()(z, labels + 1, torch.zeros(6), prototypes)
    with pytest.raises(InputError, match='strategy'): SyntheticAwareContrastiveLoss('keep')


@pytest.mark.parametrize('clean_norm', [False, True])
def test_an_interrupted_sau_training_ends_at_the_same_weights(tmp_path, clean_norm):
    split = load_split('digits')
    data = split.train + ImageSet(split.full.images[:300], split.full.labels[:300], torch.ones(300, dtype=torch.bool))
    settings = replace(classifier_settings(split, 'tiny'), steps=18)
    go = lambda name, watch=None: train_classifier(split, data, SAULoss(split, clean_norm=clean_norm), settings,
                                                   path=tmp_path / f'{name}.safetensors', save_every=0, watch=watch)

    def interrupt(i, losses):
        if i == 14: raise KeyboardInterrupt        # in the middle of an epoch, whose prototypes were made before

    once = go('once')
    with pytest.raises(KeyboardInterrupt): go('twice', interrupt)
    assert (tmp_path / 'twice.checkpoint.safetensors').exists()
    for again in go('twice'), go('twice'):      # trained to the end, and loaded
        for a, b in zip(once.state_dict().values(), again.state_dict().values()): assert torch.equal(a, b)


def test_prototypes_come_from_the_real_training_images_only():
    split, net = load_split('digits'), SmallNet(1, 10)
    loss = SAULoss(split)
    loss.prepare(net)
    loss.start_epoch(net, 0)
    before = net.prototypes.clone()
    # spoil every image that is not of the split
    for other in split.test, split.full: other.images.random_(0, 256, generator=rng(0))
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
    z, labels = F.normalize(torch.randn(8, 2, 4, generator=rng(0)), dim=-1).requires_grad_(), torch.tensor([0, 1, 2, 0,
                                                                                                            1, 2, 0, 1])
    none, synthetic = torch.zeros(0, 2, 4), torch.arange(8) > 3
    for strategy in STRATEGIES:
        assert torch.autograd.grad(SyntheticAwareContrastiveLoss(strategy)(z, labels, synthetic, none),
                                   z)[0].isfinite().all()
        # nobody to ask: nobody is trusted
        assert relabel(z, labels, torch.ones(8, dtype=torch.bool), none, strategy).max() < 0
        alone = SyntheticAwareContrastiveLoss(strategy)(z, labels, torch.ones(8), none)
        assert alone.isfinite() and torch.autograd.grad(alone, z)[0].isfinite().all()
    votes = [{int(labels[(z[:4, v] @ z[i, v]).argmax()]) for v in (0, 1)} for i in range(4, 8)]
    assert [(r >= 0).item() for r in relabel(z, labels, synthetic, none, 'drop')[4:]] == [v == {int(c)} for v,
                                                                                          c in zip(votes, labels[4:])]


@pytest.mark.parametrize('synthetic', [False, True])
@pytest.mark.parametrize('kwargs', [dict(strategy=s) for s in STRATEGIES]
                         + [dict(unaware=False), dict(aware=False), dict(prototypes=False)])
def test_a_batch_of_real_images_only_or_of_synthetic_ones_only_of_two_classes_trains(synthetic, kwargs):
    split, net = load_split('digits'), SmallNet(1, 10)
    loss = SAULoss(split, **kwargs)
    loss.prepare(net)
    loss.start_epoch(net, 0)
    batch = split.train[split.train.labels < 2][:40]
    loss(net.train(), replace(batch, synthetic=torch.full((40,), synthetic)), rng(0)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert net.body[0].weight.grad.norm() > 0


def test_relabelling_is_counted_epoch_by_epoch_and_changes_nothing():
    split = load_split('digits')
    # each third label is wrong
    fake = ImageSet.generated(split.full.images[:300], (split.full.labels[:300] + (torch.arange(300) % 3 == 0)) % 10)
    data, settings = split.train + fake, replace(classifier_settings(split, 'tiny'), steps=25)
    record = Relabelling(10)
    watched = train_classifier(split, data, SAULoss(split, record=record), settings)
    plain = train_classifier(split, data, SAULoss(split), settings)
    for a, b in zip(watched.state_dict().values(), plain.state_dict().values()): assert torch.equal(a, b)
    per_epoch = len(data) // settings.batch_size
    assert record.shares.shape == (math.ceil(25 / per_epoch), 10) and (record.shares <= 1).all()
    assert sum(n.sum() for n in record.seen[:2]) <= 2 * 300
    assert 0 < sum(n.sum() for n in record.distrusted) <= sum(n.sum() for n in record.seen)
    now = distrusted(watched, SAULoss(split), data)
    assert not now[~data.synthetic].any() and torch.equal(now, distrusted(watched, SAULoss(split), data))
    assert watched.training is False


def test_many_synthetic_images_are_asked_about_in_parts_and_each_as_if_it_were_alone(monkeypatch):
    g = rng(0)
    z = torch.nn.functional.normalize(torch.randn(5000, 2, 4, generator=g), dim=-1)
    labels, fake = torch.randint(3, (5000,), generator=g), torch.arange(5000) >= 1000
    prototypes = torch.randn(3, 2, 4, generator=g)
    whole, held, product = relabel(z, labels, fake, prototypes, 'drop'), [], torch.Tensor.__matmul__
    for i in range(1000, 5000, 331):
        few = torch.cat([torch.arange(1000), torch.tensor([i])])
        assert relabel(z[few], labels[few], fake[few], prototypes, 'drop')[-1] == whole[i]
    assert 0 < (whole[1000:] < 0).float().mean() < 1
    monkeypatch.setattr(torch.Tensor, '__matmul__', lambda x, y: held.append((m := product(x, y)).numel()) or m)
    assert torch.equal(relabel(z, labels, fake, prototypes, 'drop'), whole) and max(held) == 1024 * 1003


def test_separability_of_what_is_apart_and_of_what_is_not():
    a, b = torch.randn(150, 6, generator=rng(0)), torch.randn(150, 6, generator=rng(1))
    synthetic = torch.arange(300) >= 150
    assert .4 < separability(torch.cat([a, b]), synthetic) < .6 and separability(torch.cat([a, b + 5]), synthetic) > .95


def test_in_bfloat16_the_loss_is_the_same_within_rounding():
    split, net = load_split('digits'), SmallNet(1, 10)
    loss = SAULoss(split)
    loss.prepare(net)
    loss.start_epoch(net, 0)
    batch = split.train[:80]
    exact = loss(net.eval(), batch, rng(0))
    with torch.autocast('cpu', torch.bfloat16): rounded = loss(net, batch, rng(0))
    assert exact.dtype == rounded.dtype == torch.float32 and 0 < abs(exact - rounded) < .02 * exact


def test_cutmix_keeps_lambda_of_the_image_where_it_is_not_clipped():
    a, b = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    shares = [cutmix(a, b, .75, rng(i))[0].mean().item() for i in range(200)]
    assert max(shares) == .25 and a.sum() == 0
    assert cutmix(a, b, 1., rng(0))[0].sum() == 0


@pytest.mark.parametrize('h, w', [(8, 8), (32, 32), (5, 9)])
def test_the_label_of_cutmix_is_the_counted_share_of_the_pixels(h, w):
    a, b = torch.zeros(2, 1, h, w), torch.ones(2, 1, h, w)
    for i, lam in enumerate([0., *torch.rand(300, generator=rng(0)).tolist(), 1.]):
        images, kept = cutmix(a, b, lam, rng(i))
        assert torch.equal(images[0], images[1]) and kept == 1 - images[0].sum().item() / (h * w), lam


@pytest.mark.parametrize('exact', [True, False])
def test_cutmix_weighs_labels_by_the_pasted_area_or_as_in_saus_release_by_lambda(exact):
    split, net = load_split('digits'), SmallNet(1, 10).eval()
    loss = SAULoss(split, aware=False, exact=exact)
    batch = split.train[torch.arange(0, 380, 10)]
    clipped = 0
    for i in range(5):
        g, (first, second) = rng(i), (batch[:19], batch[19:])
        a, b = (loss.views[0](x.images / 127.5 - 1, g) for x in (first, second))
        lam, lam_cut = torch.rand(2, generator=g).tolist()
        images = cutmix(a, b, lam_cut, g)[0]
        share = (images == a).all(1).flatten(1).all(0).float().mean().item()    # pixels in which no image has changed
        clipped += abs(share - lam_cut) > .01
        ce = lambda x, of: F.cross_entropy(net(x), of.labels)
        mix = lambda x, l: l * ce(x, first) + (1 - l) * ce(x, second)
        expected = mix(lam * a + (1 - lam) * b, lam) + mix(images, share if exact else lam_cut)
        torch.testing.assert_close(loss(net, batch, rng(i)), expected)
    assert clipped


def off(f, batch_norms, x):
    """How far the statistics of batch norms are from what they are given in `f(x)`: the means, in standard deviations,
    or the variances, as a share, whichever is further, averaged over all channels."""
    seen = []

    def look(m, given, _):
        z = given[0].transpose(0, 1).flatten(1)
        seen.append(torch.stack([(z.mean(1) - m.running_mean).abs() / m.running_var.sqrt(),
                                 (z.var(1) / m.running_var - 1).abs()]))

    hooks = [m.register_forward_hook(look) for m in batch_norms]
    with torch.no_grad(): f(x)
    for h in hooks: h.remove()
    return torch.cat(seen, 1).mean(1).max().item()


def test_four_passes_have_batch_norms_of_their_own_and_two_share_them():
    split = load_split('digits')
    batch, net, seen = split.train[torch.arange(0, 64)], SmallNet(1, 10, 8), []
    for passes in 2, 4:
        loss, calls = SAULoss(split, hidden=8, dim=4, passes=passes), []
        loss.prepare(net)
        handle = net.body.register_forward_hook(lambda module, x, out: calls.append(len(out)))
        value = loss(net.train(), batch, rng(0))
        handle.remove()
        value.backward()
        seen.append((calls, value.item()))
    assert seen[0][0] == [64, 64] and seen[1][0] == [32]*4 and seen[0][1] != seen[1][1]


def test_clean_norm_estimates_batch_norms_on_what_they_are_asked_about():
    split = load_split('digits')
    settings = replace(classifier_settings(split, 'tiny'), steps=40)
    last = {}

    class Last(Watch):
        def attach(self, parts, steps, done): self.net = parts['net']
        def __call__(self, i, losses):
            last.clear()
            last.update({k: v.clone() for k, v in self.net.state_dict().items()})

    def go(**kwargs): return train_classifier(split, split.train, SAULoss(split, **kwargs), settings, watch=Last())
    plain = go()
    for k, v in plain.state_dict().items(): assert torch.equal(v, last[k]), k       # the last step's, bit by bit
    clean = go(clean_norm=True)
    parameters = {k for k, _ in clean.named_parameters()}
    for k, v in clean.state_dict().items():
        assert torch.equal(v, plain.state_dict()[k]) == (k in parameters), k
        assert k not in parameters or torch.equal(v, last[k])
    for m in clean.modules(): assert not m.training and getattr(m, 'momentum', .1) == .1

    views, x = sau_views(False), (split.train.images / 127.5 - 1).repeat(3, 1, 1, 1)
    def norms(part): return [m for m in part.modules() if isinstance(m, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d))]
    light, other = views[0](x, rng(7)), torch.cat([v(x, rng(8, i)) for i, v in enumerate(views[1:])])
    for net, near in (clean, True), (plain, False):
        assert (off(net, norms(net.body), light) < .015) == near
        assert (off(lambda x: net.contrast_head(net.features(x)), norms(net.contrast_head), other) < .06) == near
    seed = rng(0, 'classifier', 'finish').initial_seed()
    z = SAULoss(split).embed_views(clean, split.train.images, seed, 'prototypes')
    anew = torch.stack([z[split.train.labels == c].mean(0) for c in range(10)])
    torch.testing.assert_close(clean.prototypes, anew)      # in the space that the finished network has
