"The study and the command line: what they leave, second runs, kill -9 in the middle, and bad input."
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from conftest import ROOT, make_folder

from ltnb.core import InputError, Speed, TrainingError, TrainingStopped, fingerprint, load_tensors
from ltnb.data import load_split
from ltnb.diffusion import ClassConditionalPipeline, ddpm_loss, generator_settings, load_generator, train_generator
from ltnb.cli import main
from ltnb.experiments import run_experiment
from ltnb.study import CLASSIFIERS, _seconds_a_step, _Study, forecast, report, run_study, save_marks, study_settings

METRICS = {'precision', 'recall', 'density', 'coverage', 'diversity', 'frechet', 'memorised', 'class_consistency', 'n_real', 'n_generated'}
GROUPS = ('overall', 'many', 'medium', 'few')
QUIET = dict(seeds=[0, 1], say=lambda line: None)


def without_timings(results):
    r = json.loads(json.dumps(results))
    for k in ('seconds', 'machine', 'versions'): del r[k]
    for g in r['generators'].values(): del g['train_seconds'], g['samples_per_second']
    return r


def check_contract(r):
    C = r['dataset']['num_classes']
    assert r['schema'] == 1
    assert set(r['dataset']) >= {'name', 'image_size', 'channels', 'num_classes', 'class_names', 'imbalance_factor', 'profile', 'train_counts', 'test_counts', 'split_sha256'}
    assert len(r['dataset']['train_counts']) == len(r['dataset']['test_counts']) == len(r['dataset']['class_names']) == C
    assert set(r) >= {'settings', 'seeds', 'generator_seeds', 'versions', 'machine', 'seconds', 'generators', 'filters', 'classifiers'}
    number = lambda v: v is None or isinstance(v, (int, float)) and not isinstance(v, bool)
    for g in r['generators'].values():
        assert len(g['per_class']) == C
        for m in [g[k] for k in GROUPS] + [g['spread'][k] for k in GROUPS] + g['per_class']: assert set(m) >= METRICS and all(map(number, m.values()))
        assert g['parameters'] > 0 and g['train_steps'] > 0 and g['train_seconds'] > 0 and g['samples_per_second'] > 0
    for f in r['filters'].values():
        assert 0 <= f['kept'] <= f['generated'] and abs(f['id'] + f['aid'] + f['ood'] - 1) < 1e-6
        assert f['generator'] in r['generators'] and {'label_purity_before', 'label_purity_after'} <= set(f)
    for c in r['classifiers'].values():
        assert len(c['per_class']) == C and isinstance(c['training_set'], str)
        for s in [c[k] for k in ('accuracy', 'many', 'medium', 'few')] + c['per_class']:
            if s is None: continue
            assert len(s['values']) == len(r['seeds']) and all(0 <= v <= 100 for v in s['values'])
            assert abs(s['mean'] - sum(s['values']) / len(s['values'])) < 1e-3
    assert set(r['generators']) >= {'ddpm', 'cbdm'}
    assert set(r['classifiers']) >= {'ce', 'ce+ddpm', 'ce+cbdm', 'ce+cbdm+filter', 'ce+cbdm+filter+weight', 'sau'}


@pytest.fixture(scope='module')
def bars(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('data') / 'bars', (24, 12, 6))


@pytest.fixture(scope='module')
def study(bars, tmp_path_factory):
    out = tmp_path_factory.mktemp('out') / 'study'
    return run_study(load_split(f'folder:{bars}'), out, 'tiny', **QUIET), out


def test_a_study_keeps_the_contract(study):
    results, out = study
    on_disk = json.loads((out / 'results.json').read_text())
    assert on_disk == json.loads(json.dumps(results))
    check_contract(on_disk)
    assert 'oracle' not in on_disk['classifiers'] and on_disk['generators']['cbdm']['overall']['class_consistency'] is None   # no balanced set is known
    assert on_disk['classifiers']['ce']['many'] is None
    assert not [p for p in out.rglob('*') if p.suffix in ('.pkl', '.pt', '.pth', '.bin')]
    assert not list(out.rglob('*.checkpoint.safetensors'))


def test_the_report_is_made_from_the_results_alone(study):
    results, out = study
    page = (out / 'report.html').read_text()
    assert page == report(json.loads((out / 'results.json').read_text()))
    assert page.count('data:image/png') >= 10 and 'src="http' not in page and '<script' not in page
    assert f"{results['classifiers']['sau']['few']['mean']:.1f}" in page and 'poor' in page     # tiny: poor images, and said


def test_what_is_left_can_be_used_alone(study):
    _, out = study
    images = ClassConditionalPipeline.from_pretrained(out / 'generators/cbdm')(class_labels=[0, 1], num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images
    assert [im.size for im in images] == [(8, 8)] * 2
    tensors, about = load_tensors(out / 'samples/cbdm.safetensors')
    assert tensors['images'].shape[0] == tensors['labels'].shape[0] and {'seed', 'sampler', 'guidance', 'generator_sha256'} <= set(about)


def stamps(out):
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in out.rglob('*') if p.is_file() and p.name != '.lock'}


def test_the_same_command_again_changes_nothing(study, bars):
    results, out = study
    before, start = stamps(out), time.time()
    assert without_timings(run_study(load_split(f'folder:{bars}'), out, 'tiny', **QUIET)) == without_timings(results)
    assert stamps(out) == before and time.time() - start < 5


@pytest.mark.parametrize('changed', [dict(seeds=[0, 2]), dict(generator_seeds=[1]), dict(split='other')])
def test_another_study_in_the_folder_is_refused_and_unharmed(study, bars, changed, folder):
    _, out = study
    before = stamps(out)
    (folder / 'train/class0/000.png').unlink()
    split = load_split(f'folder:{folder if changed.pop("split", None) else bars}')
    with pytest.raises(InputError, match='holds another study'): run_study(split, out, 'tiny', **{**QUIET, **changed})
    assert stamps(out) == before


def test_killed_in_the_middle_a_study_goes_on_to_the_same_figures(study, bars, tmp_path):
    results, _ = study
    out = tmp_path / 'killed'
    command = [sys.executable, '-m', 'ltnb', 'study', '--data', f'folder:{bars}', '--preset', 'tiny', '--seeds', '0,1', '--out', str(out)]
    p = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None and not (out / 'classifiers/ce+ddpm-0.safetensors').exists(): time.sleep(.01)
    assert p.poll() is None, 'the study ended before it could be killed'
    os.kill(p.pid, signal.SIGKILL)
    p.wait()
    assert not (out / 'results.json').exists()
    assert without_timings(run_study(load_split(f'folder:{bars}'), out, 'tiny', **QUIET)) == without_timings(results)


TRAIN = '''
import os, sys
from pathlib import Path
from ltnb.data import load_split
from ltnb.diffusion import ddpm_loss, generator_settings, train_generator
from dataclasses import replace
split = load_split()
die = int(sys.argv[2])
train_generator(split, ddpm_loss, replace(generator_settings(split, 'tiny'), dropout=.1), path=Path(sys.argv[1]), save_every=0,
                watch=lambda i, losses: os.kill(os.getpid(), 9) if i == die else None)
'''


def test_training_killed_in_the_middle_ends_at_the_same_weights(tmp_path):
    go = lambda name, die: subprocess.run([sys.executable, '-c', TRAIN, str(tmp_path / name), str(die)], cwd=tmp_path).returncode
    assert go('once', -1) == 0
    assert go('twice', 25) == -signal.SIGKILL and (tmp_path / 'twice.checkpoint.safetensors').exists() and not (tmp_path / 'twice').exists()
    assert go('twice', -1) == 0
    once, twice = load_generator(tmp_path / 'once'), load_generator(tmp_path / 'twice')
    for a, b in zip(once.unet.state_dict().values(), twice.unet.state_dict().values()): assert torch.equal(a, b)
    assert once.training['losses'] == twice.training['losses']


def test_a_loss_that_is_not_finite_stops_and_names_step_rate_and_checkpoint(tmp_path):
    split, calls = load_split(), []

    def loss(net, batch, generator):
        calls.append(1)
        value, eps = ddpm_loss(net, batch, generator)
        return (value if len(calls) < 8 else value * float('nan')), eps

    with pytest.raises(TrainingError, match=r'nan at step 7 \(learning rate 0\.00\d+\).*bad\.checkpoint\.safetensors \(step \d\)'):
        train_generator(split, loss, generator_settings(split, 'tiny'), path=tmp_path / 'bad', save_every=0)


@pytest.mark.parametrize('file', ['generators/ddpm/training.json', 'generators/ddpm/unet/diffusion_pytorch_model.safetensors', 'samples/ddpm.safetensors', 'study.json', 'results.json'])
def test_a_damaged_file_is_named(study, bars, tmp_path, file):
    out = tmp_path / 'copy'
    shutil.copytree(study[1], out)
    if file != 'results.json': (out / 'results.json').unlink()
    (out / file).write_bytes((out / file).read_bytes()[:40])
    with pytest.raises(InputError, match=str(out / file).split('/unet')[0].replace('+', r'\+')): run_study(load_split(f'folder:{bars}'), out, 'tiny', **QUIET)


def status(*args, capsys):
    with pytest.raises(SystemExit) as e: main([str(a) for a in args])
    err = capsys.readouterr().err
    assert err.startswith('ltnb: ') and err.count('\n') == 1, err
    return e.value.code, err


def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, folder):
    (tmp_path / 'file').write_text('mine')
    (tmp_path / 'theirs').mkdir()
    (tmp_path / 'theirs/results.json').write_text('{"schema": 9}')
    (tmp_path / 'empty').mkdir()
    for args, says in [
            (['study', '--data', 'digit'], 'unknown data set'),
            (['study', '--data', f'folder:{tmp_path / "empty"}'], '0 class folders'),
            (['study', '--data', f'cifar10:{tmp_path}'], 'data_batch_1 is missing'),
            (['study', '--imbalance-factor', '.5'], 'at least 1'),
            (['study', '--imbalance-factor', '500'], 'at most 114'),
            (['study', '--imbalance-factor', 'x'], 'invalid float'),
            (['study', '--preset', 'tiny', '--out', tmp_path / 'file'], 'is a file'),
            (['study', '--preset', 'tiny', '--out', tmp_path / 'file/below'], 'cannot be made'),
            (['study', '--preset', 'tiny', '--out', tmp_path / 'theirs'], 'of another study'),
            (['study', '--preset', 'tiny', '--out', tmp_path / 'theirs', '--fresh'], 'deletes nothing'),
            (['study', '--seeds', '0,0'], 'must differ'),
            (['study', '--preset', 'tiny', '--notebooks', 'nbs'], '--notebooks goes with'),
            (['study', '--features', 'vgg'], 'invalid choice'),
            (['experiment', 'alchemy'], 'collapse, cbdm, samplers'),
            (['experiment', 'cbdm', '--data', f'folder:{folder}', '--out', tmp_path / 'e'], 'balanced training set'),
            (['experiment', 'cbdm', '--preset', 'tiny', '--out', tmp_path / 'theirs'], 'of another study'),
            (['stydy'], 'invalid choice')]:
        code, err = status(*args, capsys=capsys)
        assert code == 2 and says in err, (args, err)
    assert (tmp_path / 'file').read_text() == 'mine' and (tmp_path / 'theirs/results.json').read_text() == '{"schema": 9}'


def test_a_full_disk_is_one_line(capsys, tmp_path, monkeypatch, folder):
    import ltnb.core
    real = ltnb.core.to_safetensors

    def full(*args):
        if 'images' not in args[0]: return real(*args)      # samples no longer fit
        raise OSError(28, 'No space left on device', str(tmp_path / 'out/samples/ddpm.safetensors'))

    monkeypatch.setattr(ltnb.core, 'to_safetensors', full)
    code, err = status('study', '--data', f'folder:{folder}', '--preset', 'tiny', '--out', tmp_path / 'out', capsys=capsys)
    assert code == 2 and 'No space left on device' in err and 'ddpm.safetensors' in err
    assert not (tmp_path / 'out/samples/ddpm.safetensors').exists() and (tmp_path / 'out/generators/ddpm').exists()


def test_a_class_with_one_image(tmp_path):
    one = make_folder(tmp_path / 'one', (12, 4, 1))
    results = run_study(load_split(f'folder:{one}'), tmp_path / 'out', 'tiny', seeds=[0], say=lambda line: None)
    check_contract(results)
    assert results['filters']['cbdm+diffult']['missing'] > 0        # d_f of one image is 0: nothing but a copy would be kept


def test_several_generator_seeds(bars, tmp_path):
    results = run_study(load_split(f'folder:{bars}'), tmp_path / 'out', 'tiny', seeds=[0], generator_seeds=[0, 1], say=lambda line: None)
    check_contract(results)
    assert results['generators']['cbdm']['spread']['few']['recall'] is not None
    assert (tmp_path / 'out/generators/cbdm@1').is_dir() and 'over_generator_seeds' in results['classifiers']['sau']


def test_marks_made_by_hand_overrule_the_filters(study, bars, tmp_path, capsys):
    results, out = study
    split, marked = load_split(f'folder:{bars}'), tmp_path / 'marked'
    for part in 'generators', 'samples': shutil.copytree(out / part, marked / part)      # so that they are not made again
    _, about = load_tensors(out / 'samples/cbdm.safetensors')
    marks = torch.full((about['count'],), -1)
    marks[:5] = 1
    save_marks(tmp_path / 'marks.json', dict(cbdm=(about, marks)))
    r = run_study(split, marked, 'tiny', seeds=[0], marks=tmp_path / 'marks.json', say=lambda line: None)
    check_contract(r)
    for name in 'diffult', 'filter':
        assert r['filters'][f'cbdm+{name}']['kept'] == 5 and f'{len(marks)} by hand' in r['filters'][f'cbdm+{name}']['rule']
        assert r['filters'][f'ddpm+{name}']['kept'] == results['filters'][f'ddpm+{name}']['kept']
    with pytest.raises(InputError, match='its marks differs'): run_study(split, marked, 'tiny', seeds=[0], say=lambda line: None)
    save_marks(tmp_path / 'other.json', dict(cbdm=(about | dict(seed=9), marks)))
    for part in 'generators', 'samples': shutil.copytree(out / part, tmp_path / 'again' / part)
    for file, says in ('other.json', 'of other samples than this study has'), ('none.json', 'none.json is missing'):
        code, err = status('study', '--data', f'folder:{bars}', '--preset', 'tiny', '--seeds', '0', '--out', tmp_path / 'again', '--marks', tmp_path / file, capsys=capsys)
        assert code == 2 and says in err


@pytest.mark.parametrize('preset', ['small', 'paper'])
def test_rows_that_go_on_from_another_are_made_after_it_and_saus_network_has_a_baseline(preset, tmp_path):
    split = load_split()
    study = _Study(split, tmp_path, preset, study_settings(split, preset), [0, 1], [0, 1], None)
    plan = study.plan()
    parts = list(plan)
    for part, needs in plan.items(): assert all(parts.index(n) < parts.index(part) for n in needs)
    assert {row: study.first(row) for row in CLASSIFIERS if study.first(row)} == {
        'crt': 'ce', 'ce+adjusted': 'ce', 'crt+cbdm+filter+weight': 'ce+cbdm+filter+weight', 'sau+adjusted': 'sau'}
    assert ('accuracies', 'sau', 1, 1) in plan['accuracies', 'sau+adjusted', 1, 1] and ('accuracies', 'ce', 0, 1) in plan['accuracies', 'crt', 0, 1]
    assert (('accuracies', 'ce-wide', 0, 0) in plan) == (preset == 'paper')
    assert study.learner('ce-wide')[1] == study.learner('sau')[1] and (study.learner('ce')[1] == study.learner('sau')[1]) == (preset == 'small')


# ---- experiments

def test_an_experiment_killed_in_the_middle_goes_on_and_leaves_no_worker_behind(tmp_path, monkeypatch):
    import psutil
    from ltnb import experiments
    monkeypatch.setitem(experiments.EXPERIMENTS, 'collapse', lambda usual: {experiments.Recipe(m): [usual] for m in ('ddpm', 'cbdm')})
    code = f'from ltnb import experiments as e\nif __name__ == "__main__":\n    e.EXPERIMENTS["collapse"] = lambda usual: {{e.Recipe(m): [usual] for m in ("ddpm", "cbdm")}}\n    e.run_experiment("collapse", preset="tiny", seeds=[0, 1], out={str(tmp_path / "out")!r}, workers=2)'
    (tmp_path / 'go.py').write_text(code)
    p = subprocess.Popen([sys.executable, tmp_path / 'go.py'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None and not list((tmp_path / 'out/generators').glob('*@*/training.json')): time.sleep(.05)
    assert p.poll() is None, 'the experiment ended before it could be killed'
    workers = psutil.Process(p.pid).children(recursive=True)
    os.kill(p.pid, signal.SIGKILL)
    p.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert workers and not alive
    made = {f: f.stat().st_mtime_ns for f in (tmp_path / 'out/generators').glob('*@*/training.json')}
    result = run_experiment('collapse', preset='tiny', seeds=[0, 1], out=tmp_path / 'out', workers=1, say=lambda line: None)
    assert [(r['method'], r['seed']) for r in result['rows']] == [('ddpm', 0), ('ddpm', 1), ('cbdm', 0), ('cbdm', 1)]
    assert all(f.stat().st_mtime_ns == t for f, t in made.items())
    assert json.loads((tmp_path / 'out/experiments/collapse.json').read_text()) == json.loads(json.dumps(result))


# ---- the promises of the package itself

def seconds(*command):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        times.append(time.perf_counter() - start)
    return min(times)


def test_import_is_light_and_quick():
    code = "import sys, ltnb; assert not {'torch', 'diffusers', 'matplotlib'} & set(sys.modules); ltnb.__version__"
    assert seconds(sys.executable, '-c', code) - seconds(sys.executable, '-c', '') < .3
    import ltnb
    with pytest.raises(AttributeError): ltnb.nonsense


def test_help_is_quick():
    assert seconds(os.path.join(os.path.dirname(sys.executable), 'ltnb'), '--help') < .5
    assert seconds(sys.executable, '-m', 'ltnb', 'study', '--help') < .5


def test_a_training_in_another_layout_goes_on_to_the_same_weights(tmp_path):
    split = load_split()
    settings = replace(generator_settings(split, 'tiny'), dropout=.1)
    def train(path, watch=None): return train_generator(split, ddpm_loss, settings, path=path, speed=Speed(channels_last=True), watch=watch)
    def stop(i, losses):
        if i == 20: raise TrainingStopped
    with pytest.raises(TrainingStopped): train(tmp_path / 'stopped', stop)
    assert fingerprint(train(tmp_path / 'stopped').unet.state_dict()) == fingerprint(train(tmp_path / 'once').unet.state_dict())


# ---- what is ahead

def test_a_forecast_counts_what_is_left_to_do(study, bars, tmp_path):
    _, out = study
    split = load_split(f'folder:{bars}')
    threads = torch.get_num_threads()
    ahead, done = (forecast(split, folder, 'tiny', [0, 1]) for folder in (tmp_path / 'new', out))
    assert all(v > 0 for v in ahead['seconds'].values()) and not (tmp_path / 'new').exists()
    assert set(done['seconds'].values()) == {0} and ahead['memory'] > 1e8 and done['disk'] == ahead['disk'] > 1e6
    assert torch.get_num_threads() == threads and os.environ['LTNB_PROGRESS'] == '0'
    assert sum(p.stat().st_size for p in out.rglob('*') if p.is_file()) == pytest.approx(ahead['disk'], rel=.6)


def test_a_forecast_is_near_what_it_takes(tmp_path):
    "Sixty steps of a generator, foretold and done."
    split = load_split()
    settings = replace(generator_settings(split, 'small'), steps=60)
    foretold = 60 * _seconds_a_step(lambda watch: train_generator(split, ddpm_loss, settings, watch=watch))
    taken = train_generator(split, ddpm_loss, settings).training['seconds']
    assert foretold == pytest.approx(taken, rel=.5)


def test_predict_says_a_line_and_leaves_nothing(bars, tmp_path, capsys):
    main(['study', '--data', f'folder:{bars}', '--preset', 'tiny', '--out', str(tmp_path / 'out'), '--predict'])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and 'ahead, by a few steps measured here (generators' in said[1] and 'on disk' in said[1]
    assert not (tmp_path / 'out').exists()


def test_data_pack_by_command(bars, tmp_path, capsys):
    main(['data', 'pack', '--data', f'folder:{bars}', str(tmp_path / 'bars.pack')])
    assert 'to be used as --data pack:' in capsys.readouterr().out
    assert load_split(f'pack:{tmp_path / "bars.pack"}').sha256 == load_split(f'folder:{bars}').sha256
    with pytest.raises(SystemExit) as e: main(['data', 'pack', '--data', f'folder:{bars}', '--full', str(tmp_path / 'x')])
    assert e.value.code == 2 and 'balanced set is not known' in capsys.readouterr().err and not (tmp_path / 'x').exists()
