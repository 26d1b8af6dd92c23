"The class-conditional diffusion model: presets, samplers, the null label, and pixels folded into channels."
import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ltnb.core import InputError, rng
from ltnb.data import ImageSet, Split
from ltnb.diffusion import (SAMPLERS, ddpm_loss, draw_samples, generator_settings, noise_schedule, noisy_batch,
                            patch_of, predict_noise, sample, samples_about, unet, with_sampler)
from ltnb.generators import train_generator
from ltnb.sources import load_split


def test_the_null_label_adds_nothing_and_stays_so():
    split = load_split('digits')
    net = unet(split, generator_settings(split, 'tiny'))
    batch, g = noisy_batch(split, generator_settings(split, 'tiny'), noise_schedule(), 0, 0)
    batch.label = torch.full_like(batch.y, 10)
    ddpm_loss(net, batch, g)[0].backward()
    assert net.class_embedding.weight[10].abs().max() == 0 and net.class_embedding.weight.grad[10].abs().max() == 0


def test_presets_for_cifar_are_the_papers_networks():
    photographs = ImageSet(torch.zeros(10, 3, 32, 32, dtype=torch.uint8), torch.arange(10))
    split = Split('photographs', photographs, photographs, list(range(10)))
    paper, budget = (generator_settings(split, p) for p in ('paper', 'budget'))
    assert (paper.channels, paper.layers, paper.attention, paper.dropout) == ((128, 256, 256, 256), 2, (1,), .1)
    assert (paper.steps, paper.batch_size, paper.lr, paper.warmup) == (300_000, 48, 2e-4, 5000)     # CBDM's README
    assert (paper.decay, paper.ema) == (False, .9999)
    assert paper.drop_whole_batch and paper.label_drop == .1 and paper.flip
    assert budget.channels == paper.channels and budget.steps * 50 == paper.steps


@pytest.fixture(scope='module')
def pipe():
    split = load_split('digits')
    return train_generator(split, settings=replace(generator_settings(split, 'tiny'), steps=2))


@pytest.mark.parametrize('name', SAMPLERS)
def test_every_sampler_draws_the_same_images_again_and_leaves_the_pipeline_alone(name, pipe):
    before, y = type(pipe.scheduler), torch.arange(4)
    a, b = (sample(with_sampler(pipe, name), y, seed=s, steps=4) for s in (0, 1))
    assert torch.equal(a, sample(with_sampler(pipe, name), y, seed=0, steps=4)) and not torch.equal(a, b)
    assert type(pipe.scheduler) is before and a.shape == (4, 1, 8, 8)


def test_images_are_the_same_in_any_batches_and_from_any_number_on(pipe):
    y = torch.arange(6)
    whole = sample(pipe, y, steps=2)
    assert torch.equal(whole, sample(pipe, y, steps=2, batch_size=4))
    assert torch.equal(whole[2:], sample(pipe, y[2:], steps=2, first=2))


def test_an_interrupted_drawing_goes_on_where_it_stopped(pipe, tmp_path, monkeypatch):
    split, path, drawn, stop = load_split('digits'), tmp_path / 'samples/s+hi1.safetensors', [], [24]
    monkeypatch.setattr('ltnb.training.PART', 8)
    whole = draw_samples(pipe, split, 4, steps=2)       # in the same batches: on some processors a batch of another size rounds otherwise
    def counted(pipe, labels, *args, first=0, **kwargs):
        if first in stop: raise KeyboardInterrupt
        drawn.append(first)
        return sample(pipe, labels, *args, first=first, **kwargs)
    monkeypatch.setattr('ltnb.training.time', SimpleNamespace(perf_counter=itertools.count().__next__))     # each part takes a second
    monkeypatch.setattr('ltnb.diffusion.sample', counted)
    with pytest.raises(KeyboardInterrupt): draw_samples(pipe, split, 4, path, steps=2)
    kept = {p.name for p in path.parent.iterdir()}
    assert len(kept) == 3 and drawn == [0, 8, 16]
    other = path.with_name('s+hi1.5.0000000.checkpoint.safetensors')     # of samples with a like name
    other.write_bytes(b'')
    (path.parent / sorted(kept)[1]).write_bytes(b'cut')      # a damaged part is drawn again
    stop.clear()
    assert draw_samples(pipe, split, 4, path, steps=2).sha256 == whole.sha256 and drawn == [0, 8, 16, 8, 24, 32]
    assert samples_about(path)['seconds'] == 5      # of all parts, those of the interrupted drawing too
    assert {p.name for p in path.parent.iterdir() if '.aside' not in p.name} == {path.name, other.name}


def test_samples_that_were_drawn_otherwise_are_refused(pipe, tmp_path):
    split, path = load_split('digits'), tmp_path / 's.safetensors'
    drawn = draw_samples(pipe, split, 2, path, steps=2)
    assert drawn.synthetic.all() and drawn.sha256 == draw_samples(pipe, split, 2, path, steps=2).sha256
    with pytest.raises(InputError, match='made with another per_class, steps'):
        draw_samples(pipe, split, 1, path, steps=3)


def test_folded_pixels_are_channels_to_the_network_and_pixels_to_everybody_else():
    images = ImageSet(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.arange(2))
    split = Split('colours', images, images, ['a', 'b'])
    settings = generator_settings(split, 'tiny')
    net, x = unet(split, settings).eval(), torch.randn(2, 3, 32, 32, generator=rng(0))
    t, y = torch.tensor([5, 900]), torch.tensor([0, 2])
    # the pixel at (i, j) of each square of colour c is channel 4 c + 2 i + j
    folded = torch.stack([x[:, c, i::2, j::2] for c in range(3) for i in (0, 1) for j in (0, 1)], 1)
    seen, eps = net(folded, t, class_labels=y).sample, predict_noise(net, x, t, y)
    assert settings.patch == patch_of(net, 3) == 2 and eps.shape == x.shape
    for c in range(3):
        for i in (0, 1):
            for j in (0, 1): assert torch.equal(eps[:, c, i::2, j::2], seen[:, 4*c + 2*i + j])
    plain = unet(split, replace(settings, patch=1)).eval()
    assert patch_of(plain, 3) == 1 and torch.equal(predict_noise(plain, x, t, y), plain(x, t, class_labels=y).sample)


def test_images_that_cannot_be_cut_into_squares_are_refused_and_small_ones_stay_whole():
    images = lambda side: ImageSet(torch.zeros(2, 1, side, side, dtype=torch.uint8), torch.arange(2))
    of = lambda side: Split('x', images(side), images(side), ['a', 'b'])
    with pytest.raises(InputError, match='images of 15×15 pixels cannot be cut into squares of 2×2'):
        unet(of(15), replace(generator_settings(of(15), 'tiny'), patch=2))
    for side, patch in (8, 1), (34, 1), (32, 2), (64, 2): assert generator_settings(of(side)).patch == patch
    assert generator_settings(of(32), 'paper').patch == generator_settings(of(32), 'budget').patch == 1
