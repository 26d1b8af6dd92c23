"A balanced set with guidance: 1,000 ancestral steps of two calls each, as the papers' code draws it, and ltnb's twenty with both in one batch."
import json
from pathlib import Path

import torch

from benchmarks.common import DEVICE, apart, now, photographs, row
from ltnb.core import rng, seeded
from ltnb.sources import load_split
from ltnb.diffusion import ClassConditionalPipeline, generator_settings, noise_schedule, sample, unet, with_sampler

GUIDANCE = 1.6


@torch.no_grad()
def ancestral(net, labels, null, steps=1000):
    "DDPM's sampler with classifier-free guidance, every step two calls."
    schedule = noise_schedule()
    schedule.set_timesteps(steps)
    x = torch.randn(len(labels), net.config.in_channels, *net.config.sample_size, generator=rng(0)).to(DEVICE)
    for t in schedule.timesteps:
        cond = net(x, t, class_labels=labels).sample
        uncond = net(x, t, class_labels=torch.full_like(labels, null)).sample
        x = schedule.step(cond + GUIDANCE * (cond - uncond), t, x).prev_sample
    return x


def quality():
    "Few-shot recall of both ways with trained generators, from the recorded experiment `samplers`."
    rows = json.loads((Path(__file__).parents[1] / 'nbs/recorded/digits/samplers.json').read_text())['rows']
    def of(method, sampler, steps):
        v = torch.tensor([r['figures']['few']['recall'] for r in rows if (r['method'], r['sampler'], r['sampling_steps']) == (method, sampler, steps)])
        return f'{v.mean():.2f} ± {v.std():.2f}'
    return '; '.join(f"{m.upper()} {of(m, 'ddpm', 1000)} and {of(m, 'sde-dpmsolver++', 20)}" for m in ('ddpm', 'cbdm'))


def rows():
    cpu = DEVICE.type == 'cpu'
    split = load_split('digits') if cpu else photographs()
    settings = generator_settings(split, 'small' if cpu else 'paper')
    with seeded(0): net = unet(split, settings).to(DEVICE).eval()
    n = 64 if cpu else 256
    labels, null = (torch.arange(n) % 10).to(DEVICE), split.num_classes
    pipe = with_sampler(ClassConditionalPipeline(net, noise_schedule()))

    x = torch.randn(n, *split.image_shape, generator=rng(1)).to(DEVICE)    # the same: one call of a doubled batch, or two
    with torch.no_grad():
        both = net(torch.cat([x, x]), 500, class_labels=torch.cat([labels, torch.full_like(labels, null)])).sample.chunk(2)
        two = net(x, 500, class_labels=labels).sample, net(x, 500, class_labels=torch.full_like(labels, null)).sample
    most = max((a - b).abs().max().item() for a, b in zip(both, two))
    assert most < (1e-4 if cpu else 1e-2), most

    ancestral(net, labels, null, 5)
    measured = 1000 if cpu else 100     # each step is the same work
    start = now()
    ancestral(net, labels, null, measured)
    before = n / (now() - start) * measured / 1000
    sample(pipe, labels.cpu(), guidance=GUIDANCE, steps=2)
    start, often = now(), 3
    for _ in range(often): sample(pipe, labels.cpu(), guidance=GUIDANCE)
    after = often * n / (now() - start)
    name = 'small U-Net, 8×8' if cpu else "the papers' U-Net, 32×32"
    return [row(f'a balanced set with guidance ({name})', 'images/s', ('1,000 ancestral steps, two calls each' + ('' if cpu else f' ({measured} measured)'), before),
                ('20 steps of SDE-DPM-Solver++, one batch', after),
                f'predictions {apart(most)}; few-shot recall of 1,000 and 20 steps without guidance, recorded: {quality()}', '30 ×')]
