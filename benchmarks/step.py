"A training step of CBDM with the papers' U-Net: two separate passes in single precision, as its code has them, and ltnb's."
from dataclasses import replace

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms as T

from benchmarks.common import DEVICE, apart, furthest, photographs, row, seconds, seconds_a_step
from ltnb.cbdm import cbdm_for, cbdm_loss
from ltnb.compute import Speed, mixed_precision, usual_speed
from ltnb.core import seeded
from ltnb.diffusion import count_parameters, generator_settings, noise_schedule, noisy_batch, unet
from ltnb.generators import train_generator
from ltnb.training import first_steps

PEAK = {'A100': 312e12, 'H100': 989e12, 'H200': 989e12}     # dense bfloat16 operations a second, from NVIDIA's data sheets


def two_passes(net, xt, t, eps, y, other):
    "The loss as CBDM's code computes it where no label is dropped."
    h, h_bal = net(xt, t, class_labels=y).sample, net(xt, t, class_labels=other).sample
    return (h - eps).square().mean() + cbdm_loss(h, h_bal, t, 1000)


class OneByOne(Dataset):
    def __init__(self, split):
        self.images = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in split.train.images]
        self.labels = split.train.labels.tolist()
        self.change = T.Compose([T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize((.5,)*3, (.5,)*3)])
    def __len__(self): return len(self.images)
    def __getitem__(self, i): return self.change(self.images[i]), self.labels[i]


def usual_way(split, settings):
    "Seconds a step with a DataLoader of PIL images, two passes, single precision, Adam and an average of the weights."
    with seeded(0): net = unet(split, settings).to(DEVICE).train()
    average = [p.detach().clone() for p in net.parameters()]
    optimizer, schedule = torch.optim.Adam(net.parameters(), settings.lr), noise_schedule()
    loader = iter(DataLoader(OneByOne(split), settings.batch_size, shuffle=True, num_workers=0 if DEVICE.type == 'cpu' else 8, drop_last=True))
    def step():
        x0, y = (v.to(DEVICE) for v in next(loader))
        t, eps = torch.randint(1000, y.shape, device=DEVICE), torch.randn_like(x0)
        other = torch.multinomial(split.prior, len(y), replacement=True).to(DEVICE)
        loss = two_passes(net, schedule.add_noise(x0, eps, t), t, eps, y, other)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.)
        optimizer.step()
        for a, p in zip(average, net.parameters()): a.mul_(.9999).add_(p.detach(), alpha=1e-4)
    return seconds(step, 4 if DEVICE.type == 'cpu' else 20, 2)


def where_it_goes(split, settings, steps=3):
    "The shares of a training step, by the profiler of PyTorch: of operations on the processor."
    kinds = {'convolutions and products': ('conv', 'mm'), 'dropout': ('bernoulli',), 'normalisation and SiLU': ('group_norm', 'silu'),
             'copies': ('aten::copy_', 'aten::cat'), 'optimiser and average': ('adam', 'lerp', 'vector_norm')}
    profiler, taken = torch.profiler.profile(), dict.fromkeys(kinds, 0.)
    def train(watch):
        def profiled(i, losses): # from the third step on
            if i == 2: profiler.start()
            watch(i, losses)
        train_generator(split, cbdm_for(split), settings, watch=profiled)
    first_steps(train, 3 + steps)
    profiler.stop()
    events = profiler.key_averages()
    for e in events:
        if kind := next((k for k, names in kinds.items() if any(n in e.key for n in names)), None): taken[kind] += e.self_cpu_time_total
    whole = sum(e.self_cpu_time_total for e in events)
    return ', '.join(f'{kind} {share / whole:.0%}' for kind, share in taken.items())


def rows():
    split, cpu = photographs(), DEVICE.type == 'cpu'
    settings = replace(generator_settings(split, 'paper'), batch_size=8 if cpu else 64)
    speed = usual_speed(DEVICE, settings.steps)
    speed = replace(speed, compile=speed.compile and not speed.graph)
    before = usual_way(split, settings)
    after, _ = seconds_a_step(lambda watch: train_generator(split, cbdm_for(split), settings, watch=watch), 6 if cpu else 40, 2 if cpu else 10)

    # both compute the same: the timed settings against plain training, for a few steps without dropout …
    still = replace(settings, dropout=0., label_drop=0.)
    few = lambda speed: seconds_a_step(lambda watch: train_generator(split, cbdm_for(split), still, speed=speed, watch=watch), 4, 1)[1]
    learned = furthest(few(speed), few(Speed()))
    assert learned < 2e-2, learned
    # … and the loss of one batch in one pass against that of two: in single precision to rounding, in bfloat16 to its own
    with seeded(0): net = unet(split, still).to(DEVICE).train()
    loss, drawn = cbdm_for(split), lambda: noisy_batch(split, still, noise_schedule(), 0, 0, DEVICE)     # the batch, and what draws y'
    with torch.no_grad():
        fast, _ = loss(net, *drawn())
        with mixed_precision(DEVICE, speed.bf16): mixed, _ = loss(net, *drawn())
        b, g = drawn()
        plain = two_passes(net, b.xt, b.t, b.eps, b.y, b.draw(lambda n: torch.multinomial(split.prior, n, replacement=True, generator=g)))
    exact, rounded = (abs(v / plain - 1).item() for v in (fast, mixed))
    assert exact < (1e-5 if cpu else 1e-2) and rounded < 1e-2, (exact, rounded)
    with FlopCounterMode(display=False) as counted: loss(net, *drawn())[0].backward()
    work = counted.get_total_flops()
    used = f'{work / after / 1e12:.2g} TFLOP/s'
    if cpu: used += '; ' + where_it_goes(split, settings)
    if peak := next((v for k, v in PEAK.items() if not cpu and k in torch.cuda.get_device_name()), None): used += f', {work / after / peak:.0%} of the peak'
    how = [k.replace('_', ' ') for k, on in vars(speed).items() if on]
    return [row(f"CBDM step, the papers' U-Net ({count_parameters(net) / 1e6:.1f} M, 32×32, batch {settings.batch_size})", 's',
                ('PIL, two passes, fp32', before), ('one batch' + ''.join(f', {h}' for h in how), after),
                f'loss in fp32 {apart(exact)}, in bf16 {apart(rounded)}; those of four steps {apart(learned)}; {used}', '1.6 ×' if cpu else '5 ×')]
