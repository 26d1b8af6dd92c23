"Classifiers: networks, weights of generated images, accuracy by group, and trainings that are kept."
import copy
from dataclasses import replace

import pytest
import torch

from ltnb.classifiers import (NETWORKS, ClassifierSettings, CrossEntropy, ResNet32, accuracy_figures, accuracy_over_generators,
                              build, classifier_settings, features, train_classifier)
from ltnb.core import InputError, rng, seeded
from ltnb.data import ImageSet
from ltnb.sources import load_split


def test_generated_images_weigh_omega():
    net = ResNet32(1, 2).eval()
    batch = ImageSet(torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8, generator=rng(0)), torch.tensor([0, 1, 0, 1]),
                     torch.tensor([False, False, True, True]))
    loss = lambda omega, b=batch: CrossEntropy(augment='none', omega=omega)(net, b, rng(0)).item()
    assert abs(loss(0.) - loss(1., batch[:2]) / 2) < 1e-6
    assert abs(loss(.3) - (loss(0.) + .3 * (loss(1.) - loss(0.)))) < 1e-6


def test_networks_for_larger_images():
    for name, wide in dict(ResNet50=2048, ResNeXt50=2048).items():
        for channels in 1, 3:
            net = NETWORKS[name](channels, 7).eval()
            x = torch.rand(2, channels, 64, 64)
            assert net(x).shape == (2, 7) and net.features(x).shape == (2, wide) == (2, net.num_features)


@pytest.mark.parametrize('network, side', [('SmallNet', 8), ('SmallNet', 16), ('SmallNet', 28), ('ResNet32', 16)])
def test_channels_are_last_through_the_whole_network_and_change_its_figures_by_rounding_only(network, side):
    with seeded(0, 'classifier'): quick = build(load_split('digits'), ClassifierSettings(network=network, width=8))
    plain, x = copy.deepcopy(quick).to(memory_format=torch.contiguous_format), torch.randn(16, 1, side, side, generator=rng(0))
    last = []
    for m in quick.modules():
        if isinstance(m, (torch.nn.Conv2d, torch.nn.MaxPool2d, torch.nn.AdaptiveMaxPool2d)):
            m.register_forward_hook(lambda m, _, out: last.append(out.is_contiguous(memory_format=torch.channels_last)))
    outs = [net(x) for net in (quick, plain)]
    for out in outs: out.square().mean().backward()
    assert all(last) and len(last) == (5 if network == 'SmallNet' else 31)
    torch.testing.assert_close(*outs, rtol=1e-4, atol=1e-5)
    for a, b in zip(quick.parameters(), plain.parameters()): torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


def test_the_layout_of_other_networks_is_left_to_them(monkeypatch):
    class Mine(torch.nn.Module):
        def __init__(self, channels, num_classes, width):
            super().__init__()
            self.conv, self.last = torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.Linear(64*width, num_classes)
        def forward(self, x): return self.last(self.conv(x).view(len(x), -1))       # an error if the channels are last
    monkeypatch.setitem(NETWORKS, 'mine', Mine)
    net = build(load_split('digits'), ClassifierSettings(network='mine', width=3))
    assert net(torch.rand(2, 1, 8, 8)).shape == (2, 10) and net.features(torch.rand(2, 1, 8, 8)).shape == (2, 192)


def test_accuracy_by_group_is_the_mean_over_its_classes():
    split = load_split('digits')
    per_class = torch.stack([torch.arange(10.), torch.arange(10.) + 1])
    f = accuracy_figures(split, per_class)
    assert f['accuracy']['values'] == [4.5, 5.5] and f['worst']['values'] == [0, 1] and f['many']['values'] == [0, 1]
    assert f['medium']['mean'] == 3.5 and f['few']['mean'] == 8 and f['per_class'][9]['mean'] == 9.5
    over = accuracy_over_generators(split, torch.stack([per_class, per_class + 4])[None])
    assert over['accuracy']['values'] == [6.5, 7.5] and over['over_generator_seeds']['accuracy']['values'] == [5, 9]
    assert 'over_generator_seeds' not in accuracy_over_generators(split, per_class[None, None])


def test_accuracy_over_draws_has_their_order_and_their_interval():
    split, per_class = load_split('digits'), torch.stack([torch.arange(10.), torch.arange(10.) + 1])
    one = torch.stack([per_class, per_class + 4])       # (generators, classifiers, classes)
    over = accuracy_over_generators(split, torch.stack([one, one + 20]))
    a, g = over['accuracy'], over['over_generator_seeds']['accuracy']
    assert a['values'] == [6.5, 7.5, 26.5, 27.5] and g['values'] == [5, 9, 25, 29]
    for of in a, g:     # draws of means 7 and 27: 17, and t(1) at 97.5 %, 12.7062, times a standard error of 10
        assert abs(of['low'] - (17 - 127.062)) < .01 and abs(of['high'] - (17 + 127.062)) < .01
    assert 'low' not in accuracy_over_generators(split, one[None])['accuracy']


def test_a_classifier_is_kept_and_another_is_refused(tmp_path):
    split = load_split('digits')
    settings = replace(classifier_settings(split, 'tiny'), steps=3)
    train = lambda data=split.train, **kwargs: train_classifier(split, data, settings=settings,
                                                                path=tmp_path / 'ce-0.safetensors', **kwargs)
    a, b = train(), train(watch=lambda i, losses: 1 / 0)       # which no step calls
    for x, y in zip(a.state_dict().values(), b.state_dict().values()): assert torch.equal(x, y)
    with pytest.raises(InputError, match='ce-0.safetensors was made with another data: '): train(split.full)
    with pytest.raises(InputError, match='was made with another loss, seed: '):
        train(loss=CrossEntropy(omega=.3), seed=1)


def test_frozen_features_stay_and_only_chosen_images_are_seen():
    split = load_split('digits')
    settings = replace(classifier_settings(split, 'tiny'), steps=3)
    frozen, seen = build(split, settings).eval(), []
    class Seen(CrossEntropy):
        def __call__(self, net, batch, generator, done=0.):
            seen.append(batch.labels)
            return super().__call__(net, batch, generator, done)
    chance = (split.train.labels == 9).float()
    net = train_classifier(split, split.train, Seen(), settings, frozen=frozen, chance=chance)
    x = split.test.images[:9]
    assert torch.equal(features(net, x), features(frozen, x)) and not torch.equal(net.head.weight, frozen.head.weight)
    assert torch.cat(seen).unique().tolist() == [9] and len(seen) == 3


def test_a_loss_finishes_once_after_the_last_step_and_before_the_classifier_is_kept(tmp_path):
    split, seen = load_split('digits'), []
    class Marked(CrossEntropy):
        def finish(self, net, data, generator):
            seen.append((net.training, len(data), torch.rand((), generator=generator).item()))
            net.head.bias.data.fill_(7)
    settings = replace(classifier_settings(split, 'tiny'), steps=3)
    go = lambda name: train_classifier(split, split.train, Marked(), settings, path=tmp_path / f'{name}.safetensors')
    for net in go('a'), go('a'): assert (net.head.bias == 7).all() and not net.training     # trained, and loaded
    assert len(seen) == 1 and seen[0][:2] == (False, len(split.train))
    go('b')
    assert seen[0] == seen[1]       # its random numbers are the seed's


def test_a_kept_network_with_other_parameters_is_told_in_one_line(tmp_path, monkeypatch):
    split, settings = load_split('digits'), ClassifierSettings('SmallNet', 8, 2, 16)
    train_classifier(split, split.train, settings=settings, path=tmp_path / 'c.safetensors')
    monkeypatch.setitem(NETWORKS, 'SmallNet', lambda *shape: ResNet32(*shape))
    with pytest.raises(InputError, match='c.safetensors has other parameters than SmallNet of this installation: delete it') as e:
        train_classifier(split, split.train, settings=settings, path=tmp_path / 'c.safetensors')
    assert '\n' not in str(e.value)
