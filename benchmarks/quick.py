"What has to stay below a fixed time: importing, help, views, a filter and a browser of fifty thousand samples, a forecast."
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.common import row

ROOT = Path(__file__).parents[1]
FILTER = '''
import json, resource, time, torch
from ltnb.core import rng
from ltnb.filtering import FILTERS
real, fake = torch.randn(10_000, 2048, generator=rng(0)), torch.randn(50_000, 2048, generator=rng(1))
y, asked = torch.arange(10_000) % 10, torch.arange(50_000) % 10
start = time.perf_counter()
kept = FILTERS['agreed'](None).fit(real, y).keep(fake, asked)
print(json.dumps([kept.float().mean().item(), time.perf_counter() - start,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]))
'''


BROWSER = '''
import json, resource, time, torch
from ltnb.data import ImageSet, Split, long_tail_counts
from ltnb.widgets import FilterExplorer, Gallery, MissedModes, TailBrowser, TailMap, TailWall
torch.set_num_threads(1)
label = lambda n: torch.arange(100).repeat_interleave(torch.tensor(n))
make = lambda n: ImageSet(torch.randint(256, (sum(n), 3, 32, 32), dtype=torch.uint8), label(n))
split = Split('large', make(long_tail_counts(500, 100, 100)), make([100]*100), [f'class {i}' for i in range(100)])
samples = make([500]*100)
features = lambda x: x[:, :, ::8, ::8].flatten(1).float()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, out = peak(), {}
def timed(what, act, *args):
    start = time.perf_counter()
    result = act(*args)
    out.setdefault(what, []).append(time.perf_counter() - start)
    return result
def opened():
    b = TailBrowser(Gallery(split, dict(cbdm=samples), features))
    b.open()
    return b
b = timed('opened', opened)
for c in 0, 17, 50, 98: timed('another class', setattr, b, 'cls', c)
for p in 2, 5, 11: timed('another page', setattr, b, 'page', p)
b.sort = 'distance'
for c in 1, 18, 51, 97: timed('another class by distance', setattr, b, 'cls', c)
timed('a sample selected', setattr, b, 'selected', b.entries[5])
e = FilterExplorer(b.gallery)
e.open()
timed('a threshold dragged', setattr, e.view.sliders[0], 'value', 1.1)
def mapped():
    m = TailMap(b.gallery, 'all')
    m.open()
    return m
m = timed('a map of all opened', mapped)
x0, x1, y0, y1 = m.limits
for x in (2*x0 + x1) / 3, (x0 + x1) / 2, x1: timed('a lasso on the map', m.lasso, [(x0, y0), (x, y0), (x, y1), (x0, y1)])
for i in 3, 4, 5: timed('a point of the map looked at', setattr, m, 'point', m.selected[i])
timed('the nearest on the map', m.near)
for sources in ('training', 'cbdm'), ('cbdm',), ('training', 'held out', 'cbdm'): timed('a source of the map hidden', setattr, m, 'sources', sources)
g = Gallery(split, dict(ddpm=make([500]*100), cbdm=samples), features)
m, w = MissedModes(g), TailWall(g)
timed('what is missed: opened', m.open)
for c in 0, 17, 50, 98: timed('what is missed: another class', setattr, m, 'cls', c)
m.cls = 99
timed('what is missed: an image selected', setattr, m, 'selected', m.pairs[0][0])
timed('the wall: opened', w.open)
for p in 2, 3: timed('the wall: other classes', setattr, w, 'page', p)
timed('the wall: a sample selected', setattr, w, 'selected', ('cbdm', 49_500))
timed('the wall: another sample selected', setattr, w, 'selected', ('cbdm', 40_500))
print(json.dumps([{k: sorted(v)[len(v) // 2] for k, v in out.items()}, (peak() - before) / samples.images.nbytes]))
'''


def python(*args): # in a fresh process, so that its peak memory is its own; returns what it prints
    return subprocess.run([sys.executable, *args], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT))).stdout


def seconds(*args): # the fastest of three
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        python(*args)
        taken.append(time.perf_counter() - start)
    return min(taken)


def allowed(what, most, taken, checked, unit='s'):
    "A row for something that must take less than `most`, which is asserted."
    assert taken < most, f'{what}: {taken:.3g} {unit}, allowed are {most:g}'
    return row(what, unit, ('allowed', most), ('measured', taken), checked)


def starting():
    "Importing the package, less what Python itself takes, and its help."
    light = "import sys, ltnb; assert not {'torch', 'diffusers', 'matplotlib'} & set(sys.modules)"
    yield allowed('`import ltnb`', .3, seconds('-c', light) - seconds('-c', ''), 'torch is not imported')
    for args in ['--help'], ['study', '--help']:
        yield allowed(f"`ltnb {' '.join(args)}`", .5, seconds('-m', 'ltnb', *args), 'it ended well')


def filtering():
    "Fifty thousand samples against ten thousand real ones."
    kept, taken, memory = json.loads(python('-c', FILTER))
    assert .08 < kept < .12, kept       # nearest neighbours of noise agree by chance
    assert memory < 2, memory
    yield allowed('50,000 samples filtered by 10,000 real ones (2,048 features)', 30, taken,
                  f'{kept:.1%} of noise kept, 10 % by chance; {memory:.2f} GB at the most')


def browsing():
    "Fifty thousand samples in the browser of samples, the filter explorer and the map, without the web browser."
    most = {'opened': 1, 'another class': .1, 'another page': .1, 'another class by distance': .1, 'a sample selected': .1,
            'a threshold dragged': .5, 'what is missed: opened': 1, 'what is missed: another class': .1,
            'what is missed: an image selected': .1, 'the wall: opened': 1, 'the wall: other classes': .1,
            'the wall: a sample selected': 1, 'the wall: another sample selected': .1,
            'a map of all opened': 2, 'a lasso on the map': .1, 'a point of the map looked at': .1, 'the nearest on the map': .1,
            'a source of the map hidden': .1}
    taken, memory = json.loads(python('-c', BROWSER))
    assert memory < 3, memory       # a second generator among it
    for what in most: yield allowed(f'50,000 samples browsed: {what}', most[what], taken[what], f'{memory:.2f} × the samples in memory')


def views():
    "SAU's views in batches against PIL's; somebody else may take a core for a moment, so the best of three."
    code = 'import json, benchmarks.views as b; print(json.dumps(b.measure(1024)))'
    best = max((json.loads(python('-c', code)) for _ in range(3)), key=lambda m: m['times'])
    assert best['times'] > 5, best
    yield row("SAU's three views of 1,024 photographs", 'images/s', ('image by image with PIL', best['one_by_one']),
              ('in batches', best['in_batches']), 'more than 5 × as fast', '5 ×')


def forecasting():
    "The time of sixty training steps of a generator: predicted as `ltnb.forecast` does, and measured."
    from ltnb.diffusion import ddpm_loss, generator_settings
    from ltnb.generators import train_generator
    from ltnb.sources import load_split
    from ltnb.training import first_steps
    split = load_split()
    settings = replace(generator_settings(split, 'small'), steps=60)
    steps, _ = first_steps(lambda watch: train_generator(split, ddpm_loss, settings, watch=watch), enough=5.)
    taken, foretold = train_generator(split, ddpm_loss, settings).training['seconds'], 60 * min(steps)
    assert abs(foretold / taken - 1) < .5, (foretold, taken)
    yield row('a forecast', 's', ('foretold', foretold), ('taken', taken), 'within a half')


def rows(): return [*starting(), *filtering(), *browsing(), *views(), *forecasting()]
