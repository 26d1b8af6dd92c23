"CBDM's regulariser against a plain transcription of it, value and gradient."
import pytest
import torch
import torch.nn.functional as F

from ltnb.cbdm import CBDMLoss, cbdm_for, cbdm_loss
from ltnb.core import InputError, rng
from ltnb.diffusion import generator_settings, noise_schedule, noisy_batch, unet
from ltnb.sources import load_split


@pytest.mark.parametrize('tau, gamma', [(1., .25), (.5, 0.), (3., 1.)])
def test_cbdm_loss_is_the_authors(tau, gamma):
    g = rng(0)
    h, h_bal = (torch.randn(8, 3, 4, 4, generator=g, dtype=torch.float64, requires_grad=True) for _ in range(2))
    t = torch.randint(1000, (8,), generator=g)
    # term by term, image by image: w = tau t / T, squared errors, stopped gradients
    total = torch.zeros((), dtype=torch.float64)
    for i in range(8):
        w = tau * t[i].item() / 1000
        total = total + (w * F.mse_loss(h[i], h_bal[i].detach(), reduction='none')
                         + gamma * w * F.mse_loss(h[i].detach(), h_bal[i], reduction='none')).mean() / 8
    value = cbdm_loss(h, h_bal, t, 1000, tau, gamma)
    assert abs(value.item() - total.item()) < 1e-6
    for a, b in zip(torch.autograd.grad(value, (h, h_bal), retain_graph=True), torch.autograd.grad(total, (h, h_bal))):
        assert torch.allclose(a, b, atol=1e-9)


def test_cbdm_from_the_training_function_is_two_separate_passes():
    split = load_split('digits')
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


def test_other_classes_are_drawn_by_the_training_prior_and_uniformly_when_fine_tuning():
    split = load_split('digits')
    assert torch.equal(cbdm_for(split).prior, split.prior) and cbdm_for(split, tau=2.).tau == 2
    assert torch.equal(cbdm_for(split, True).prior, torch.full((10,), .1))
    with pytest.raises(InputError, match='one shape'):
        cbdm_loss(torch.zeros(2, 1), torch.zeros(3, 1), torch.zeros(2), 9)
