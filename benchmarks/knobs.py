"Each knob by itself. What is usual (`ltnb.compute.usual_speed`) was chosen by these."
import copy
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.common import DEVICE, apart, furthest, photographs, row, seconds, seconds_a_step
from ltnb.cbdm import cbdm_for
from ltnb.classifiers import ClassifierSettings, build, classifier_settings
from ltnb.compute import Speed, has_bf16, mixed_precision
from ltnb.core import save_tensors, seeded
from ltnb.data import to_float
from ltnb.sources import load_split
from ltnb.diffusion import generator_settings, unet
from ltnb.generators import train_generator


def step(split, settings, speed, steps):
    return seconds_a_step(lambda watch: train_generator(split, cbdm_for(split), settings, speed=speed, watch=watch), steps)


def of_network(name, split, settings, steps, compile):
    "Rows of the ways to run a network, each against the plain one."
    plain, losses = step(split, settings, Speed(), steps)
    ways = dict(bf16=Speed(bf16=True)) if has_bf16(DEVICE) else {}
    ways['channels_last'] = Speed(channels_last=True)
    if has_bf16(DEVICE): ways['bf16, channels_last'] = Speed(bf16=True, channels_last=True)
    cuda = DEVICE.type == 'cuda'
    if compile: ways['torch.compile' + ', bf16' * cuda] = Speed(bf16=cuda, compile=True)
    if cuda: ways['CUDA graphs, bf16'] = Speed(bf16=True, graph=True)
    found = []
    for way, speed in ways.items():
        fast, its_losses = step(split, settings, speed, steps)
        off = furthest(its_losses, losses)
        assert off < (2e-2 if speed.bf16 else 2e-3), (way, off)
        found.append(row(f'CBDM step, {name}', 's', ('fp32', plain), (way, fast), f'losses of {steps} steps {apart(off)}'))
    return found


def of_classifier(name, split, settings):
    "A batch through a classifier and back, with the channels first in memory and as `build` has them, last."
    with seeded(0, 'classifier'): last = build(split, settings).to(DEVICE)
    first, batch = copy.deepcopy(last).to(memory_format=torch.contiguous_format), split.train[:settings.batch_size].to(DEVICE)
    def loss(net):
        with mixed_precision(DEVICE): value = F.cross_entropy(net(to_float(batch.images)), batch.labels)
        value.backward()
        return value.detach()
    off = furthest(loss(last), loss(first))
    assert off < 2e-2, off
    before, after = (seconds(lambda: loss(net), 10, 2) for net in (first, last))
    return row(f'classifier, {name}, batch {len(batch)}', 's', ('channels first', before), ('channels last', after), f'loss {apart(off)}')


def rows():
    cpu, photos, clothes = DEVICE.type == 'cpu', photographs(), load_split('fashion')
    paper = replace(generator_settings(photos, 'paper'), batch_size=8 if cpu else 64, dropout=0.)    # masks depend on the layout
    found = of_network(f"the papers' U-Net, 32×32, batch {paper.batch_size}", photos, paper, 5 if cpu else 30, not cpu)
    small = generator_settings(clothes)
    found += of_network(f'small U-Net, 16×16, batch {small.batch_size}', clothes, small, 15, True)

    found += [of_classifier('SmallNet, 16×16', clothes, classifier_settings(clothes)),
              of_classifier('ResNet-32, 32×32', photos, ClassifierSettings(network='ResNet32', width=16, batch_size=128))]

    with seeded(0): net = unet(photos, paper).to(DEVICE)
    for p in net.parameters(): p.grad = torch.randn_like(p)
    def adam(**how):
        optimizer = torch.optim.Adam([p.detach().clone().requires_grad_() for p in net.parameters()], 1e-4, **how)
        for p, q in zip(optimizer.param_groups[0]['params'], net.parameters()): p.grad = q.grad
        taken = seconds(optimizer.step, 5, 2)
        return taken, optimizer.param_groups[0]['params']
    (before, a), (after, b) = adam(foreach=False), adam(fused=True)
    most = max((x - y).abs().max().item() for x, y in zip(a, b))
    assert most < 1e-5, most
    found.append(row("Adam, the papers' U-Net", 's', ('a loop over tensors', before), ('fused', after), f'weights {apart(most)} after seven steps'))

    average, loop = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(.9999)), [p.detach().clone() for p in net.parameters()]
    average.update_parameters(net)
    with torch.no_grad():
        for p in net.parameters(): p.mul_(1.1)      # so that there is something to follow
    def by_loop():
        for x, p in zip(loop, net.parameters()): x.mul_(.9999).add_(p.detach(), alpha=1e-4)
    start = [x.clone() for x in loop]
    before, after = seconds(by_loop, 5), seconds(lambda: average.update_parameters(net), 5)
    assert max((x - y).abs().max().item() for x, y in zip(loop, start)) > 1e-5
    most = max((x - y).abs().max().item() for x, y in zip(loop, average.module.parameters()))
    assert most < 1e-5, most
    found.append(row("average of the weights, the papers' U-Net", 's', ('a loop over tensors', before), ('all at once', after), apart(most)))

    state = {f'{k}{i}': v.clone() for i in range(4) for k, v in net.state_dict().items()}   # as a checkpoint: weights, average, two moments
    with tempfile.TemporaryDirectory() as d:
        before = seconds(lambda: save_tensors(Path(d) / 'checkpoint', state), 2, 1)
    after = seconds(lambda: {k: v.detach().to('cpu', copy=True) for k, v in state.items()}, 3, 1)
    found.append(row("training waits for a checkpoint, the papers' U-Net", 's', ('until it is written', before), ('until it is copied', after), 'resumed trainings end bit by bit the same (tests)'))
    return found
