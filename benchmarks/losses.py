"A training step of each method, and drawing by each policy of sampling, against DDPM's, on the small photographs of the kit."
import torch

from benchmarks.common import row, seconds, seconds_a_step
from ltnb.diffusion import ClassConditionalPipeline, generator_settings, noise_schedule, sample, unet, with_sampler
from ltnb.generators import train_generator
from ltnb.policies import policy_of
from ltnb.sources import load_split
from ltnb.specs import LOSSES, Recipe

AIMS = dict(cbdm=2, t2h=1.1, coral=1.15, ccua=2, cm=2)     # in steps of DDPM's
POLICIES = {'auto': 2, 'interval': 2, 'cads': 2}            # in draws without guidance


def rows():
    split = load_split('fashion')
    settings = generator_settings(split)
    step = lambda method: seconds_a_step(lambda watch: train_generator(split, LOSSES[method](split, Recipe(method)), settings, watch=watch), 40, 10)[0]
    ddpm = step('ddpm')
    found = [row(f'a step of {method.upper()}, 16×16, batch {settings.batch_size}', 's', ('DDPM', ddpm), (method.upper(), taken := step(method)),
                 f"{taken / ddpm:.2f} of DDPM's", f"at most {aim} of DDPM's") for method, aim in AIMS.items()]
    nets = [unet(split, settings).eval() for _ in range(4)]
    pipe, labels = with_sampler(ClassConditionalPipeline(nets[0], noise_schedule(), settings.patch, *nets[1:])), torch.arange(64) % 10
    draw = lambda **how: seconds(lambda: sample(pipe, labels, **how), 3)
    plain = draw()
    return found + [row(f'64 images by {name}, w = 1', 's', ('no guidance', plain), (name, taken := draw(guidance=1., policy=policy_of(name))),
                        f'{taken / plain:.2f} of no guidance', f'at most {aim}') for name, aim in POLICIES.items()]
