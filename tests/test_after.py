"What came after CBDM: each loss against its formula written out once more, in loops and in double precision."
import math

import pytest
import torch
import torch.nn.functional as F

from ltnb.after import (CCUALoss, CMLoss, CORALLoss, Experts, Middle, OCLoss, ccua_losses, coral_loss, oc_targets)
from ltnb.cbdm import CBDMLoss
from ltnb.core import InputError, rng
from ltnb.diffusion import ddpm_loss, generator_settings, noise_schedule, noisy_batch, predict_noise, unet
from ltnb.generators import _Trained, load_generator, train_generator
from ltnb.sources import load_split
from ltnb.specs import LOSSES, Recipe
from ltnb.training import first_steps

T = 1000
SPLIT = load_split('digits')
ABAR = noise_schedule().alphas_cumprod


def batch(b=12, seed=0, t=None, shape=(2, 4, 4)):
    "Fixed tensors of a batch of three classes."
    g = rng(seed, 'test after')
    x0, eps = torch.rand(b, *shape, generator=g)*2 - 1, torch.randn(b, *shape, generator=g)
    t = torch.randint(0, T, (b,), generator=g) if t is None else torch.full((b,), t)
    abar = ABAR[t].view(-1, 1, 1, 1)
    return dict(x0=x0, y=torch.arange(b) % 3, t=t, eps=eps, xt=abar.sqrt()*x0 + (1 - abar).sqrt()*eps, abar=abar,
                uniform=torch.rand(b, generator=g))


PRIOR = torch.tensor([.7, .2, .1])


def oc_by_hand(x0, y, t, eps, xt, abar, uniform, mode):
    "The same in loops: posterior, inverse transform, gate."
    js, targets = [], []
    x0, eps, xt, abar = (v.double() for v in (x0, eps, xt, abar))
    for i in range(len(y)):
        a = abar[i].item()
        sigma2 = (1 - a) / a
        logs = torch.stack([-(xt[i] / a**.5 - x0[j]).square().sum() / (2*sigma2) for j in range(len(y))])
        at, j = 0., len(y) - 1
        for k, share in enumerate(logs.softmax(0).tolist()):
            at += share
            if at > uniform[i].item():
                j = k
                break
        own, other = PRIOR[y[i]], PRIOR[y[j]]
        if not dict(t2h=other >= own, h2t=other <= own, full=True)[mode]: j = i
        js.append(j)
        targets.append(eps[i] + (x0[i] - x0[j]) / sigma2**.5)
    return torch.stack(targets), torch.tensor(js)


@pytest.mark.parametrize('mode', ['t2h', 'h2t', 'full'])
@pytest.mark.parametrize('t', [None, 400, 999])
def test_oc_targets_are_those_of_the_formula(mode, t):
    b = batch(t=t)
    targets, j = oc_targets(prior=PRIOR, mode=mode, **b)
    expected, by_hand = oc_by_hand(mode=mode, **b)
    assert torch.equal(j, by_hand) and torch.allclose(targets.double(), expected, rtol=1e-3, atol=1e-4)
    moved = j != torch.arange(len(j))
    assert t is None or moved.any()
    if mode == 't2h': assert (PRIOR[b['y'][j]] >= PRIOR[b['y']]).all()
    if mode == 'h2t': assert (PRIOR[b['y'][j]] <= PRIOR[b['y']]).all()


def test_without_noise_an_image_is_taken_for_itself_and_with_pure_noise_for_any():
    b = batch(t=0)
    targets, j = oc_targets(prior=PRIOR, mode='full', **b)
    assert torch.equal(j, torch.arange(12)) and torch.equal(targets, b['eps'])
    b, drawn = batch(t=999), []
    for k in range(200): drawn.append(oc_targets(prior=PRIOR, mode='full', **b | dict(uniform=torch.full((12,), (k + .5)/200)))[1])
    shares = torch.stack(drawn).flatten().bincount(minlength=12) / 2400
    assert (shares - 1/12).abs().max() < .02
    _, cut = oc_targets(prior=PRIOR, mode='full', cut_time=999, **b)
    assert torch.equal(cut, torch.arange(12))
    with pytest.raises(InputError, match='it is one of t2h, h2t, full'): oc_targets(prior=PRIOR, mode='t2t', **b)


def coral_by_hand(z, y, t, weight, tau_r, tau_s, per_sample):
    z, each, weights = F.normalize(z, dim=1), [], []
    for i in range(len(y)):
        others = [k for k in range(len(y)) if k != i]
        same = [k for k in others if y[k] == y[i]]
        if not same: continue
        s = {k: z[i] @ z[k] / tau_s for k in others}
        whole = torch.stack(list(s.values())).exp().sum().log()
        each.append(-sum(s[k] - whole for k in same) / len(same))
        weights.append(weight * math.exp((1 - t[i].item()/T) / tau_r))
    if per_sample: return tau_s * torch.stack([w*e for w, e in zip(weights, each)]).mean()
    return tau_s * torch.stack(each).mean() * sum(weight * math.exp((1 - u/T)/tau_r) for u in t.tolist()) / len(t)


@pytest.mark.parametrize('per_sample', [False, True])
def test_corals_term_and_its_gradient(per_sample):
    g = rng(0, 'coral')
    z, t, y = torch.randn(9, 5, generator=g), torch.randint(0, T, (9,), generator=g), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
    mine, other = (z.clone().requires_grad_(), z.double().requires_grad_())
    a, b = coral_loss(mine, y, t, T, .5, .3, .1, per_sample), coral_by_hand(other, y, t, .5, .3, .1, per_sample)
    a.backward(), b.backward()
    assert a.ndim == 0 and a.item() == pytest.approx(b.item(), rel=1e-5)
    assert torch.allclose(mine.grad.double(), other.grad, rtol=1e-4, atol=1e-7)


def test_corals_limits():
    z, t = torch.eye(8).requires_grad_(), torch.zeros(8, dtype=torch.long)
    y = torch.arange(8) // 2
    assert coral_loss(z, y, t, T, 1., 1., 1.).item() == pytest.approx(math.log(7) * math.e, rel=1e-5)    # orthogonal: log(B - 1)
    for alone in torch.zeros(8, dtype=torch.long), torch.arange(8):     # one class; no two of a class
        value = coral_loss(z, alone, t, T)
        value.backward()
        assert value == 0 and not z.grad.any()


def test_ccuas_terms_and_their_gradients():
    g = rng(0, 'ccua')
    h, c, u = torch.randn(6, 3, 2, 2, generator=g), *torch.randn(2, 6, 1, 4, 4, generator=g)
    t = torch.randint(0, T, (6,), generator=g)
    mine, other = ([v.clone().to(dtype).requires_grad_() for v in (h, c, u)] for dtype in (torch.float32, torch.float64))
    ucl, al = ccua_losses(*mine, t, T, .1)
    flat = F.normalize(other[0].flatten(1), dim=1)
    n = [-torch.log(math.exp(10) / (math.exp(10) + sum((flat[i] @ flat[j] * 10).exp() for j in range(6) if j != i))) for i in range(6)]
    ucl_by_hand = sum(t[i]/T * n[i] for i in range(6)) / 6
    al_by_hand = sum((t[i]/T * (other[1][i] - other[2][i]).square()).sum() for i in range(6)) / other[1].numel()
    (2*ucl + 3*al).backward()
    (2*ucl_by_hand + 3*al_by_hand).backward()
    assert ucl.item() == pytest.approx(ucl_by_hand.item(), rel=1e-5) and al.item() == pytest.approx(al_by_hand.item(), rel=1e-5)
    for a, b in zip(mine, other): assert torch.allclose(a.grad.double(), b.grad, rtol=1e-4, atol=1e-7)
    # all alike: log B; orthogonal: log(1 + (B - 1) e^-10)
    last = torch.full((6,), T)
    assert ccua_losses(torch.ones(6, 4), c, c, last, T)[0].item() == pytest.approx(math.log(6), rel=1e-5)
    assert ccua_losses(torch.eye(6), c, c, last, T)[0].item() == pytest.approx(math.log1p(5*math.exp(-10)), abs=1e-6)


def test_half_precision_does_not_swallow_the_contrast():
    g = rng(0, 'half')
    h, c = torch.randn(16, 64, generator=g), torch.randn(16, 1, 4, 4, generator=g)
    y, t = torch.arange(16) % 4, torch.full((16,), 500)
    whole = ccua_losses(h, c, c, t, T)[0].item(), coral_loss(h, y, t, T).item()
    with torch.autocast('cpu', torch.bfloat16): half = ccua_losses(h, c, c, t, T)[0].item(), coral_loss(h, y, t, T).item()
    assert half == pytest.approx(whole, rel=1e-5)


def network():
    torch.manual_seed(0)
    return unet(SPLIT, generator_settings(SPLIT, 'tiny'))


def test_what_is_kept_of_the_middle_is_the_middle_blocks_output():
    net = network().eval()
    middle, seen = Middle(net, 7), []
    net.mid_block.register_forward_hook(lambda m, i, out: seen.append(out))
    net(torch.randn(3, 1, 8, 8), 5, class_labels=torch.tensor([0, 1, 2]))
    assert torch.equal(middle.h, seen[0])
    assert torch.allclose(middle.z, seen[0].mean((2, 3)) @ middle.linear.weight.T + middle.linear.bias, atol=1e-5)


def test_experts_add_what_their_merged_weights_give():
    net = network().eval()
    x, y = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 9])
    plain = net(x, 5, class_labels=y).sample
    experts, merged = Experts(net), network().eval()
    assert torch.equal(net(x, 5, class_labels=y).sample, plain)     # B is zero
    for b in experts.b: torch.nn.init.normal_(b, std=.1)
    added = net(x, 5, class_labels=y).sample
    for p, q in zip(merged.parameters(), experts.merged(net).parameters()): p.data = q
    assert (added - plain).abs().max() > 1e-3 and torch.allclose(merged(x, 5, class_labels=y).sample, added, atol=1e-5)
    experts.on = False
    assert torch.equal(net(x, 5, class_labels=y).sample, plain)
    assert len(experts.of) == sum('up_blocks' in name for name, m in net.named_modules() if isinstance(m, torch.nn.Conv2d))


def test_cm_rewards_a_difference_of_rare_classes_up_to_a_bound_and_punishes_that_of_common_ones():
    loss, net = CMLoss([300, 30, 3], div=1.), network()
    assert loss.weights.sum().item() == pytest.approx(0, abs=1e-5) and loss.weights[0] > 0 > loss.weights[2]
    loss, settings = CMLoss(SPLIT.counts), generator_settings(SPLIT, 'tiny')
    loss.beside(net)
    for b in loss.experts.b: torch.nn.init.normal_(b, std=.05)
    b, g = noisy_batch(SPLIT, settings, noise_schedule(), 0, 0)
    model = _Trained(net, loss.experts)
    value, eps = loss(model, b, g)
    with loss._general(), torch.no_grad(): general = model(b.xt, b.t, b.label).sample
    d = (eps - general).square().mean((1, 2, 3))
    expected = (eps - b.eps).square().mean()
    for i in range(len(d)):
        w = loss.weights[b.y[i]]
        if b.label[i] == b.y[i]: expected = expected + w * (d[i] if w > 0 else d[i].clamp(max=.1)) / len(d)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5) and d.max() > 0
    value.backward()
    assert all(p.grad is not None for p in loss.experts.parameters())


@pytest.mark.parametrize('loss, passes', [(OCLoss(SPLIT.prior), 1), (CORALLoss(), 1), (CCUALoss(), 2), (CMLoss(SPLIT.counts), 2)])
def test_a_loss_costs_what_is_said(loss, passes):
    net = network()
    beside = [loss.beside(net)] if hasattr(loss, 'beside') else []
    model, images = _Trained(net, *beside), []
    model.register_forward_hook(lambda m, i, out: images.append(len(i[0])))
    b, g = noisy_batch(SPLIT, generator_settings(SPLIT, 'tiny'), noise_schedule(), 0, 0)
    value, eps = loss(model, b, g)
    assert sum(images) == passes * len(b.y) and eps.shape == b.x0.shape and value.isfinite()


def test_a_dropped_label_has_no_part_in_what_compares_labels():
    settings = generator_settings(SPLIT, 'tiny')
    b, g = noisy_batch(SPLIT, settings, noise_schedule(), 0, 0)
    b.label = torch.full_like(b.label, 10)
    for loss in CORALLoss(), CCUALoss(contrast=0.), CMLoss(SPLIT.counts):
        net = network()
        model = _Trained(net, loss.beside(net))
        assert loss(model, b, g)[0].item() == pytest.approx(ddpm_loss(model, b, g)[0].item(), rel=1e-5)


@pytest.mark.parametrize('base', [ddpm_loss, OCLoss(SPLIT.prior), CBDMLoss(SPLIT.prior)], ids=lambda b: getattr(b, '__name__', type(b).__name__))
def test_with_dropout_cm_says_nothing_at_the_start_either(base):
    from dataclasses import replace
    settings = replace(generator_settings(SPLIT, 'tiny'), dropout=.3)
    torch.manual_seed(0)
    loss, net = CMLoss(SPLIT.counts, base=base), unet(SPLIT, settings)
    model = _Trained(net, loss.beside(net)).train()
    b, g = noisy_batch(SPLIT, settings, noise_schedule(), 0, 0)
    torch.manual_seed(1)
    value, eps = loss(model, b, g)
    torch.manual_seed(1)
    b, g = noisy_batch(SPLIT, settings, noise_schedule(), 0, 0)
    assert value.item() == pytest.approx(base(model, b, g)[0].item(), rel=1e-6)
    assert not torch.equal(model(b.xt, b.t, b.label).sample, eps)      # there is dropout


def test_losses_with_a_part_of_their_own_go_under_aid_and_not_under_another(tmp_path):
    from ltnb.classifiers import build, classifier_settings
    from ltnb.aid import AIDLoss
    phi = build(SPLIT, classifier_settings(SPLIT, 'tiny'))
    for base in CORALLoss(), CCUALoss(), CMLoss(SPLIT.counts):
        losses = first_steps(lambda watch: train_generator(SPLIT, AIDLoss(SPLIT, phi, base, relative=True), generator_settings(SPLIT, 'tiny'), watch=watch), 3)[1]
        assert len(losses) == 3 and losses.isfinite().all()
    for base in CORALLoss(), AIDLoss(SPLIT, phi, CORALLoss()):
        with pytest.raises(InputError, match='part of its own'): CMLoss(SPLIT.counts, base=base)


@pytest.mark.parametrize('method', ['t2h', 'h2t', 'full', 'coral', 'ccua', 'cm'])
def test_every_loss_trains_and_what_is_saved_is_a_plain_network(method, tmp_path):
    loss = LOSSES[method](SPLIT, Recipe(method))
    pipe = train_generator(SPLIT, loss, generator_settings(SPLIT, 'tiny'), path=tmp_path / method)
    again = load_generator(tmp_path / method)
    plain = network().state_dict()
    assert {k: v.shape for k, v in again.unet.state_dict().items()} == {k: v.shape for k, v in plain.items()}
    x, y = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    assert torch.equal(predict_noise(again.unet, x, 5, y), predict_noise(pipe.unet, x, 5, y))
    assert again.early16 is not None and not torch.equal(again.early16.conv_in.weight, again.unet.conv_in.weight)


def test_classes_of_a_batch_are_drawn_by_the_profile_that_is_asked_for():
    from dataclasses import replace
    schedule = noise_schedule()
    for imbalance in 1., 10.:
        settings = replace(generator_settings(SPLIT, 'tiny'), batch_imbalance=imbalance, batch_size=256)
        y = torch.cat([noisy_batch(SPLIT, settings, schedule, i, 0)[0].y for i in range(40)])
        share = y.bincount(minlength=10) / len(y)
        assert (share[0] / share[9]).item() == pytest.approx(imbalance, rel=.25)
