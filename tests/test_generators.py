"Generators are trained with any loss, kept, and drawn from without what was done to their images."
from dataclasses import replace

import pytest
import torch

from ltnb.after import CMLoss, CORALLoss
from ltnb.compute import Speed, default_device, has_bf16, usual_speed
from ltnb.core import InputError
from ltnb.data import ImageSet, Split
from ltnb.diffusion import ddpm_loss, generator_settings, noise_schedule, noisy_batch, sample
from ltnb.generators import generator_about, load_generator, train_generator
from ltnb.sources import load_split


@pytest.mark.parametrize('how', [dict(augment=.5), dict(shift=.5)], ids=['augment', 'shift'])
def test_the_augmentation_condition_leaves_no_trace_in_what_samples(tmp_path, how):
    split = load_split('digits')
    settings, told = replace(generator_settings(split, 'tiny'), steps=4, **how), []
    def loss(net, batch, generator):
        told.append((net.beside[0].what.abs().sum().item(), net.beside[0].linear.weight.clone()))
        return ddpm_loss(net, batch, generator)
    pipe = train_generator(split, loss, settings, path=tmp_path / 'g')
    again = load_generator(tmp_path / 'g')
    # in training it is told, and learned
    assert all(what > 0 for what, _ in told) and not torch.equal(told[0][1], told[3][1])
    assert torch.equal(sample(pipe, torch.arange(3), steps=2), sample(again, torch.arange(3), steps=2))
    assert not [name for name in again.unet.state_dict() if 'linear.weight' in name and 'condition' in name]
    assert not again.unet.time_embedding._forward_hooks


def test_a_shifted_batch_says_how_far_and_nothing_else_and_reaches_the_weights():
    split = load_split('digits')
    settings = replace(generator_settings(split, 'tiny'), steps=2)
    plain, moved = (noisy_batch(split, replace(settings, shift=p), noise_schedule(), 0, 0)[0] for p in (0., 1.))
    assert not plain.what.any() and moved.what[:, 7:].abs().min() > 0 and not moved.what[:, :7].any()
    assert not torch.equal(plain.x0, moved.x0)
    a, b = (train_generator(split, settings=replace(settings, shift=p)) for p in (0., 1.))
    assert not torch.equal(a.unet.conv_in.weight, b.unet.conv_in.weight)


def test_a_generator_of_folded_pixels_is_trained_kept_and_draws_the_same_images(tmp_path):
    images = ImageSet(torch.randint(256, (20, 1, 32, 32), dtype=torch.uint8), torch.arange(20) % 2)
    split = Split('noise', images, images, ['a', 'b'])
    settings = replace(generator_settings(split, 'tiny'), steps=3)
    assert settings.patch == 2
    pipe = train_generator(split, settings=settings, path=tmp_path / 'g')
    again, y = load_generator(tmp_path / 'g'), torch.tensor([0, 1, 1])
    drawn = sample(pipe, y, guidance=.5, steps=3)
    assert drawn.shape == (3, 1, 32, 32) and torch.equal(drawn, sample(again, y, guidance=.5, steps=3))
    assert generator_about(tmp_path / 'g')['settings']['patch'] == again.config.patch == 2
    assert pipe.unet.config.in_channels == 4 and tuple(pipe.unet.config.sample_size) == (16, 16)


def test_what_is_no_generator_is_told_in_one_line(tmp_path):
    with pytest.raises(InputError, match='no training.json in it'): load_generator(tmp_path)


def test_in_bfloat16_on_a_cpu_attention_is_not_the_fused_one_whose_backward_pass_is_slow():
    split, cpu, fused = load_split('digits'), torch.device('cpu'), []
    def loss(net, batch, generator):
        q = torch.zeros(1, 2, 16, 8, requires_grad=True)
        fused.append('Flash' in type(torch.nn.functional.scaled_dot_product_attention(q, q, q).grad_fn).__name__)
        return ddpm_loss(net, batch, generator)
    for speed in Speed(), usual_speed(cpu, 1): train_generator(split, loss, replace(generator_settings(split, 'tiny'), steps=1), device=cpu, speed=speed)
    assert fused == [True, not has_bf16(cpu)]


def test_the_first_pass_of_each_step_is_recorded_and_others_run_as_usual(monkeypatch):
    split, passes = load_split('digits'), []
    settings = replace(generator_settings(split, 'tiny'), steps=3)
    def record(net, args):
        passes.append('recorded')
        return lambda *args: (passes.append('replayed'), net(*args))[1]
    monkeypatch.setattr(torch.cuda, 'make_graphed_callables', record)
    def asks_more(net, batch, generator): # with fewer images, without a gradient, and once more with all of them
        value, eps = ddpm_loss(net, batch, generator)
        with torch.no_grad(): net(batch.xt, batch.t, class_labels=batch.label)
        for n in 2, len(batch.y): value = value + net(batch.xt[:n], batch.t[:n], class_labels=batch.label[:n]).sample.mean()
        return value, eps
    usual, recorded = (train_generator(split, asks_more, settings, speed=Speed(graph=g)) for g in (False, True))
    assert passes == ['recorded'] + 3*['replayed']
    assert all(torch.equal(a, b) for a, b in zip(usual.unet.parameters(), recorded.unet.parameters()))
    passes.clear()
    train_generator(split, CORALLoss(), settings, speed=Speed(graph=True))
    assert not passes       # its network has a hook, which a graph would not call


def test_a_compiled_network_does_not_run_the_code_of_one_without_its_hooks(monkeypatch):
    split, compiled = load_split('digits'), torch.nn.Module.compile
    settings = replace(generator_settings(split, 'tiny'), steps=3)
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: compiled(self, backend='eager'))
    for loss in ddpm_loss, CORALLoss(), CMLoss(split.counts):       # one after the other in one process
        usual, fast = (train_generator(split, loss, settings, speed=Speed(compile=c)) for c in (False, True))
        assert torch.allclose(torch.tensor(usual.training['losses']), torch.tensor(fast.training['losses']), atol=1e-4)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(usual.unet.parameters(), fast.unet.parameters()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('loss', [ddpm_loss, None], ids=['ddpm', 'cbdm'])
def test_recorded_as_cuda_graphs_a_training_learns_the_same(loss):
    from ltnb.cbdm import cbdm_for
    split = load_split('digits')
    settings = replace(generator_settings(split, 'tiny'), steps=20)
    usual, recorded = (train_generator(split, loss or cbdm_for(split), settings, device=default_device(), speed=Speed(has_bf16(default_device()), graph=g))
                       for g in (False, True))
    assert torch.allclose(torch.tensor(usual.training['losses']), torch.tensor(recorded.training['losses']), rtol=1e-2)
