"Experiments: what a row says, a kill -9 in the middle, and the recorded ones."
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from conftest import ROOT

from ltnb.experiments import EXPERIMENTS, run_experiment, training_set_figures
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.specs import Draw, Learner, Recipe, TrainingSet, run_settings


def test_a_data_set_without_rare_classes_divides_by_no_zero(tmp_path):
    split = load_split('digits', 2.)
    assert min(split.counts) >= 20 and not split.groups['few']
    settings = run_settings(split, 'tiny')
    run = Run(split, tmp_path, replace(settings, rounds=0, sampling=replace(settings.sampling, per_class=6)))
    what = TrainingSet(Recipe(), 'neighbours')
    figures = training_set_figures(run, what, 0)
    assert figures['generated'] == 0 and figures['accepted'] is None and figures['recall'] is None
    assert figures['missing'] > 0 and figures == training_set_figures(run, what, 0)      # kept, and read again
    assert json.loads((tmp_path / f'rows/{what.name}@0.json').read_text())['row'] == figures


def test_rows_of_generators_and_of_classifiers(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, 'collapse', lambda usual: {Recipe('ddpm'): [usual, replace(usual, guidance=1.)]})
    monkeypatch.setitem(EXPERIMENTS, 'ladder', lambda usual: {TrainingSet(): [Learner()]})
    monkeypatch.setattr('ltnb.experiments.CLASSIFIER_SEEDS', (0, 1))
    go = lambda name: run_experiment(name, preset='tiny', seeds=[0], out=tmp_path, workers=1, say=lambda line: None)
    result = go('collapse')
    assert [(r['method'], r['guidance'], r['seed'], r['train_steps']) for r in result['rows']] == [
        ('ddpm', 0., 0, 40), ('ddpm', 1., 0, 40)]
    assert all(set(r['figures']) == {'overall', 'many', 'medium', 'few'} for r in result['rows'])
    row, = go('ladder')['rows']
    assert (row['training_set'], row['learner'], row['recipe'], row['made']) == ('real', 'ce', None, None)
    assert len(row['few_runs']) == 1 and len(row['few_runs'][0]) == len(row['accuracy']['values']) == 2
    assert row['validation']['mean'] > 0 and row['validation_few'] is not None
    for name in 'collapse', 'ladder':
        path = tmp_path / f'experiments/{name}.json'
        kept = path.read_text(), {p: p.stat().st_mtime_ns for p in (tmp_path / 'rows').iterdir()}
        assert json.loads(json.dumps(go(name)['rows'])) == json.loads(kept[0])['rows']
        assert kept[1] == {p: p.stat().st_mtime_ns for p in (tmp_path / 'rows').iterdir()}


GO = '''
from ltnb import experiments as e
from ltnb.specs import Recipe
if __name__ == "__main__":
    e.EXPERIMENTS["collapse"] = lambda usual: {Recipe(m): [usual] for m in ("ddpm", "cbdm")}
    e.run_experiment("collapse", preset="tiny", seeds=[0, 1], out=OUT, workers=2)
'''


@pytest.mark.slow
def test_an_experiment_killed_in_the_middle_goes_on_and_leaves_no_worker_behind(tmp_path, monkeypatch):
    import psutil
    monkeypatch.setitem(EXPERIMENTS, 'collapse', lambda usual: {Recipe(m): [usual] for m in ('ddpm', 'cbdm')})
    out = tmp_path / 'out'
    (tmp_path / 'go.py').write_text(GO.replace('OUT', repr(str(out))))
    p = subprocess.Popen([sys.executable, tmp_path / 'go.py'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None and not list((out / 'generators').glob('*@*/training.json')): time.sleep(.05)
    assert p.poll() is None, 'the experiment ended before it could be killed'
    workers = psutil.Process(p.pid).children(recursive=True)
    os.kill(p.pid, signal.SIGKILL)
    p.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert workers and not alive
    made = {f: f.stat().st_mtime_ns for f in (out / 'generators').glob('*@*/training.json')}
    result = run_experiment('collapse', preset='tiny', seeds=[0, 1], out=out, workers=1, say=lambda line: None)
    assert [(r['method'], r['seed']) for r in result['rows']] == [('ddpm', 0), ('ddpm', 1), ('cbdm', 0), ('cbdm', 1)]
    assert all(f.stat().st_mtime_ns == t for f, t in made.items())
    assert json.loads((out / 'experiments/collapse.json').read_text()) == json.loads(json.dumps(result))


def test_recorded_experiments_have_every_row():
    for name, plan in EXPERIMENTS.items():
        recorded = json.loads((ROOT / f'nbs/recorded/{name}.json').read_text())
        assert len(recorded['seeds']) >= 3
        of_classifiers = any(isinstance(what, TrainingSet) for what in plan(Draw()))
        asked = [(what.name, way.name) for what, ways in plan(Draw()).items() for way in ways]
        if of_classifiers:      # one row over all seeds
            assert [(r['training_set'], r['learner']) for r in recorded['rows']] == asked, name
            assert all(len(r['few_runs']) == (3 if r['recipe'] else 1) and len(r['few_runs'][0]) == 5
                       for r in recorded['rows'])
        else:
            assert len(recorded['rows']) == len(asked) * len(recorded['seeds']), name
            assert all(row['figures']['few']['recall'] is not None for row in recorded['rows'])
