"""One process or several: the same losses, the same images, one writer, an end when one is killed, and a study that
goes on with another number of them."""
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, free_port

from ltnb.cbdm import cbdm_for
from ltnb.compute import Speed
from ltnb.core import fingerprint, load_json, load_tensors
from ltnb.sources import load_split
from ltnb.diffusion import generator_settings, sample
from ltnb.generators import train_generator

BIN = Path(sys.executable).parent
LABELS = torch.arange(10).repeat(3)
EXACT = Speed()     # losses of one process and of two agree to four digits in single precision


def settings(split): return replace(generator_settings(split, 'tiny'), augment=.12)


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    "A generator trained, and images drawn, by a single process."
    split, path = load_split('digits'), tmp_path_factory.mktemp('alone') / 'cbdm'
    pipe = train_generator(split, cbdm_for(split), settings(split), path=path, speed=EXACT)
    return pipe, sample(pipe, LABELS, batch_size=8), path


def losses(path): return load_json(path / 'training.json')['losses']


PROGRAM = '''
import math, os, signal, sys
from dataclasses import replace
from pathlib import Path
from ltnb.cbdm import cbdm_for
from ltnb.cli import main
from ltnb.compute import alone, disband, gather, in_parallel, on_main, team
from ltnb.core import InputError, TrainingError, fingerprint, save_json
from ltnb.sources import load_split
from ltnb.diffusion import sample
from ltnb.generators import load_generator, train_generator
sys.path.insert(0, sys.argv[1])
from test_team import EXACT, LABELS, settings
what, out = sys.argv[2], Path(sys.argv[3])
split = load_split('digits')

def train(path, watch=None):
    return train_generator(split, cbdm_for(split), settings(split), path=path, speed=EXACT, save_every=0, watch=watch)

calls = []
def no_numbers(net, batch, generator): # from step 7 on the second process has a gradient of NaN, and a loss that shows nothing
    value, eps = cbdm_for(split)(net, batch, generator)
    calls.append(1)
    if len(calls) > 7 and team().process_index == 1: value.register_hook(lambda g: g * math.nan)
    return value, eps

if what == 'nan':
    try: train_generator(split, no_numbers, settings(split), path=out / 'nan', save_every=0)
    except TrainingError as e:
        told = gather([str(e), hasattr(e, 'of_all')])
        on_main(save_json, out / 'told.json', told)
    disband()
elif what == 'killed':
    def watch(i, losses):
        if team().process_index == 1 and i == 14: os.kill(os.getpid(), signal.SIGKILL)
    train(out / 'cbdm', watch)
else:
    drawn = sample(load_generator(sys.argv[4]), LABELS, batch_size=8)
    train(out / 'cbdm')
    order = []
    jobs = [(12, 18), (7, 3), (10, 5), (4, 6)]
    dealt = in_parallel(math.gcd, jobs, after={(7, 3): [(12, 18)]}, on_done=lambda job, result: order.append(job))
    errors = []
    for f in (lambda: on_main(int, 'no number'), lambda: in_parallel(math.sqrt, [(4,), (-1,)]),
              lambda: train_generator(split, settings=replace(settings(split), batch_size=33))):
        try: f()
        except (ValueError, InputError) as e: errors.append(str(e))
    with alone(): single = [team().num_processes, gather('mine')]
    told = gather(dict(processes=team().num_processes, images=fingerprint(dict(images=drawn)), dealt=dealt,
                       order=order, errors=errors, single=single))
    on_main(save_json, out / 'told.json', told)
    try: main(['study', '--data', 'digits', '--preset', 'tiny', '--out', sys.argv[1] + '/conftest.py'])
    except SystemExit as e: sys.stdout.write(f'status {e.code}\\n')     # in one piece
    disband()       # or the one that ends last may be aborted
'''


def launch(*args):
    env = {k: v for k, v in os.environ.items() if k not in ('RANK', 'WORLD_SIZE')}
    command = [BIN / 'torchrun', '--nproc-per-node=2', f'--master-port={free_port()}', *args]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp('program') / 'program.py'
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope='module')
def killed(program, tmp_path_factory):
    out = tmp_path_factory.mktemp('killed')
    return launch(program, ROOT / 'tests', 'killed', out), out


def test_a_killed_process_ends_the_job_with_its_name(killed):
    done, out = killed
    assert done.returncode != 0
    assert 'rank      : 1 ' in done.stderr and 'SIGKILL' in done.stderr
    assert not (out / 'cbdm').exists() and load_tensors(out / 'cbdm.checkpoint.safetensors')[1]['done'] in range(1, 16)


def test_all_processes_learn_of_weights_that_are_not_finite(program, tmp_path):
    done = launch(program, ROOT / 'tests', 'nan', tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    told = load_json(tmp_path / 'told.json')
    assert len(told) == 2 and all(of_all and re.search(r'the loss is nan at step 8 \(learning rate', said) for said, of_all in told), told
    tensors, about = load_tensors(tmp_path / 'nan.checkpoint.safetensors')
    assert about['done'] in range(1, 8) and all(x.isfinite().all() for x in tensors.values() if x.is_floating_point())


@pytest.fixture(scope='module')
def together(killed, program, alone):
    "What two processes make, going on from what was left by those of which one was killed."
    out = killed[1]
    (out / 'copy.checkpoint.safetensors').write_bytes((out / 'cbdm.checkpoint.safetensors').read_bytes())
    done = launch(program, ROOT / 'tests', 'all', out, alone[2])
    assert done.returncode == 0, done.stderr[-3000:]
    return load_json(out / 'told.json'), out, done


def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path):
    psutil = pytest.importorskip('psutil')
    p = subprocess.Popen([sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', f'--master-port={free_port()}', '-m', 'ltnb', 'study',
                          '--data', 'digits', '--preset', 'tiny', '--rows', 'ce,ce+ddpm', '--out', str(tmp_path / 'out')],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / 'out/study.json').exists():
        assert p.poll() is None
        time.sleep(.05)
    children = psutil.Process(p.pid).children(recursive=True)
    p.kill()
    assert len(children) == 2 and not psutil.wait_procs(children, timeout=60)[1]


def test_two_processes_have_the_losses_of_one(together, alone):
    _, out, _ = together
    assert load_json(out / 'cbdm/training.json')['processes'] == 2
    assert losses(out / 'cbdm') == pytest.approx(losses(alone[2]), abs=1e-4)
    # one wrote, and cleaned up
    assert sorted(p.name for p in out.iterdir()) == ['cbdm', 'copy.checkpoint.safetensors', 'told.json']


def test_one_process_goes_on_where_two_were(together, alone):
    _, out, _ = together
    split = load_split('digits')
    train_generator(split, cbdm_for(split), settings(split), path=out / 'copy', speed=EXACT)
    assert losses(out / 'copy') == pytest.approx(losses(alone[2]), abs=1e-4)
    (out / 'copy').rename(out.with_name('copy'))


def test_two_processes_draw_the_images_of_one(together, alone):
    told, _, _ = together
    assert [t['processes'] for t in told] == [2, 2]
    assert [t['images'] for t in told] == [fingerprint(dict(images=alone[1]))] * 2      # bit by bit, and both have all


def test_jobs_are_dealt_out_and_errors_are_everybodys(together):
    for told in together[0]:
        assert told['dealt'] == [6, 1, 5, 2]
        assert sorted(map(tuple, told['order'])) == [(4, 6), (7, 3), (10, 5), (12, 18)]
        assert told['order'].index([7, 3]) > told['order'].index([12, 18])
        assert 'no number' in told['errors'][0]
        assert ('expected a nonnegative' in told['errors'][1] or 'math domain' in told['errors'][1])
        assert told['errors'][2] == ('a batch of 33 cannot be shared out evenly to 2 processes: '
                                     'start another number of them')
        assert told['single'] == [1, ['mine']]


def test_bad_input_is_said_once(together):
    done = together[2]
    assert done.stderr.count('ltnb: ') == done.stderr.count('ltnb: --out') == 1 and done.stdout.count('status 2') == 2


def test_a_study_by_accelerate_launch_is_the_study_of_one_process(tmp_path, bars, study):
    by_one, one = study
    command = [BIN / 'accelerate', 'launch', '--multi_gpu', '--num_processes=2', '--num_machines=1',
               '--mixed_precision=no', '--dynamo_backend=no',
               f'--main_process_port={free_port()}', '-m', 'ltnb', 'study', '--data', f'folder:{bars}',
               '--preset', 'tiny', '--seeds', '0', '--rows', 'all', '--out', tmp_path / 'two']
    env = dict(os.environ, ACCELERATE_USE_CPU='1')
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('Split bars') == 1 and 'Traceback' not in done.stderr and 'Warning' not in done.stderr
    by_two = json.loads((tmp_path / 'two/results.json').read_text())
    assert set(by_two) == set(by_one) and set(by_two['classifiers']) == set(by_one['classifiers'])
    assert (by_one['machine']['processes'], by_two['machine']['processes']) == (1, 2)
    # what no generator is in: bit by bit
    assert by_two['classifiers']['ce'] == json.loads(json.dumps(by_one['classifiers']['ce']))
    for name, g in by_one['generators'].items():
        assert by_two['generators'][name]['overall']['diversity'] == pytest.approx(g['overall']['diversity'], rel=.02)
    assert {p.relative_to(tmp_path / 'two') for p in (tmp_path / 'two').rglob('*') if p.is_file()} == {
        p.relative_to(one) for p in one.rglob('*') if p.is_file()}


def test_notebook_launcher_starts_a_team(tmp_path):
    program = f'''
from accelerate import notebook_launcher
import torch
torch.set_num_threads(1)
def run(path):
    import sys
    sys.path.insert(0, {str(ROOT / 'tests')!r})
    from test_team import settings
    from ltnb.cbdm import cbdm_for
    from ltnb.sources import load_split
    from ltnb.generators import train_generator
    split = load_split('digits')
    train_generator(split, cbdm_for(split), settings(split), path=path)
notebook_launcher(run, ({str(tmp_path / 'cbdm')!r},), num_processes=2, use_port='{free_port()}')
'''
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_json(tmp_path / 'cbdm/training.json')['processes'] == 2
