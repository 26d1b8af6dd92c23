"Experiments: what a row says, a kill -9 in the middle, and the recorded ones."
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace

import pytest
import torch
from conftest import ROOT

from ltnb.comparisons import over_draws
from ltnb.core import InputError
from ltnb.experiments import (CHOSEN_ON, CLASSIFIER_SEEDS, COMPARED, EXPERIMENTS, harmonic, run_experiment,
                              training_set_figures)
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.specs import TAUS, Draw, Learner, Recipe, TrainingSet, run_settings


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


@pytest.mark.slow
def test_rows_of_generators_and_of_classifiers(tmp_path, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, 'collapse', lambda usual: {Recipe('ddpm'): [usual, replace(usual, guidance=1.)]})
    monkeypatch.setitem(EXPERIMENTS, 'ladder', lambda usual: {TrainingSet(): [Learner()]})
    monkeypatch.setattr('ltnb.experiments.CLASSIFIER_SEEDS', (0, 1))
    go = lambda name: run_experiment(name, 'digits', 'tiny', draws=['ldam', 1], out=tmp_path, workers=1,
                                     say=lambda line: None)
    result = go('collapse')
    assert [(r['method'], r['guidance'], r['seed'], r['draw'], r['train_steps']) for r in result['rows']] == [
        ('ddpm', w, 0, draw, 40) for draw in ('ldam', 1) for w in (0., 1.)]
    assert result['draws'] == ['ldam', 1] and (tmp_path / 'draws/1/generators/ddpm').is_dir()
    assert all(set(r['figures']) == {'overall', 'many', 'medium', 'few'} for r in result['rows'])
    row, = go('ladder')['rows']
    assert (row['training_set'], row['learner'], row['recipe'], row['made']) == ('real', 'ce', None, None)
    # draws, generators, classifiers
    assert len(row['few_runs']) == 2 and all(len(g) == 1 and len(g[0]) == 2 for g in row['few_runs'])
    assert sum(row['few_runs'], []) == [pytest.approx(row['few']['values'][i:i + 2], abs=1e-3) for i in (0, 2)]
    assert row['validation']['mean'] > 0 and len(row['validation_few']['values']) == 4
    curve = row['curve']
    assert curve['tau'] == TAUS and len(curve['test']['few']) == len(curve['left_out']['all']) == len(TAUS)
    assert curve['test']['few'][0] == pytest.approx(row['few']['mean'], abs=1e-3)
    assert [sum(at) / len(at) for at in zip(*curve['test']['draws']['few'])] == pytest.approx(curve['test']['few'])     # a line each draw
    assert curve['left_out']['all'][0] == pytest.approx(row['validation']['mean'], abs=1e-3)
    for name in 'collapse', 'ladder':
        path = tmp_path / f'experiments/{name}.json'
        kept = path.read_text(), {p: p.stat().st_mtime_ns for p in (tmp_path / 'rows').iterdir()}
        assert json.loads(json.dumps(go(name)['rows'])) == json.loads(kept[0])['rows']
        assert kept[1] == {p: p.stat().st_mtime_ns for p in (tmp_path / 'rows').iterdir()}


@pytest.mark.slow
def test_the_comparison_chooses_one_way_of_each_method_on_left_out_images(tmp_path, monkeypatch):
    ddpm = Recipe('ddpm')
    ways = dict(ddpm=[replace(ddpm, guidance=w) for w in (0., 2.)], auto=[replace(ddpm, guidance=1., policy='auto')],
                cm=[Recipe('cm', guidance=0.), Recipe('cm', strength=.5, guidance=0.)])
    monkeypatch.setattr('ltnb.experiments.COMPARED', ways)
    result = run_experiment('after', 'digits', 'tiny', draws=['ldam', 1], out=tmp_path, workers=1, say=lambda line: None)
    assert [(r['draw'], r['compared']) for r in result['rows']] == [(d, m) for d in ('ldam', 1) for m in ('real', *ways)]
    assert [(lot['draw'], lot['methods']) for lot in result['lots']] == [(d, ['real', *ways]) for d in ('ldam', 1)]
    assert result['seconds'] == sum(lot['seconds'] for lot in result['lots']) > 0
    for row in result['rows']:
        if row['compared'] == 'real':
            assert set(row['accuracy']) == {'ce', 'la', 'oracle'}
            continue
        assert len(row['curve']) == len(ways[row['compared']])
        for way in row['curve']:    # measured on left-out images
            assert way['score'] == pytest.approx(harmonic(way['few'][0])) and len(way['few']) == 1
            left = load_split('digits', subset=row['draw']).left_out.counts(10)
            assert way['few'][0]['n_generated'] == sum(min(CHOSEN_ON, left[c]) for c in range(6, 10))
        best = max(row['curve'], key=lambda way: way['score'])      # of this draw
        assert (row['strength'], row['policy'], row['guidance'] or 0.) == (best['strength'], best['policy'], best['guidance'])
        assert len(row['figures']['few']['recall']['values']) == len(row['accuracy']['sau']['few']['values']) == 1
        assert row['seconds']['training'] > 0 < row['seconds']['an_image'] and row['picture'].startswith('data:image/png')
    assert len(list((tmp_path / 'rows').glob('*few100.json'))) == 5
    compared, here = over_draws(result), {(r['compared'], r['draw']): r for r in result['rows']}
    assert [r['compared'] for r in compared['rows']] == [*ways] and set(compared['without']) == {'ce', 'la', 'oracle'}
    for r in compared['rows']:
        of = [here[r['compared'], d] for d in ('ldam', 1)]
        assert r['accuracy']['sau']['few']['values'] == [x['accuracy']['sau']['few']['values'][0] for x in of]
        assert [c['guidance'] for c in r['chosen']] == [x['guidance'] for x in of] and len(r['curve'][0]['few']) == 2


@pytest.mark.slow
def test_a_comparison_goes_on_from_a_record_that_was_made_elsewhere(tmp_path, monkeypatch):
    ways = dict(ddpm=[Recipe('ddpm', guidance=0.)], cm=[Recipe('cm', guidance=0.)])
    monkeypatch.setattr('ltnb.experiments.COMPARED', ways)
    def go(out, *draws, said=print): return run_experiment('after', 'digits', 'tiny', draws=draws, out=tmp_path / out, workers=1, say=said)
    go('here', 1)
    kept, record = (tmp_path / 'here/experiments/after.json').read_text(), tmp_path / 'there/experiments/after.json'
    record.parent.mkdir(parents=True)
    record.write_text(kept)
    ways['longer'] = [Recipe('ddpm', length=2., guidance=0.)]
    lines = []
    more = go('there', 1, said=lines.append)
    assert lines == ['after, draw 1: 1 ways to draw, 1 seeds of the generators; 3 rows are there']
    assert [r for r in json.loads(record.read_text())['rows'] if r['compared'] != 'longer'] == json.loads(kept)['rows']
    assert [lot['methods'] for lot in more['lots']] == [['real', 'ddpm', 'cm'], ['longer']] and not list(tmp_path.glob('there/generators/cm*'))
    ways['cm'] = [Recipe('cm', guidance=.5)]        # another way to draw: this row is measured anew
    assert [lot['methods'] for lot in go('there', 1)['lots']] == [['real', 'ddpm', 'cm'], ['longer'], ['cm']]
    for broken, why in (('[]', 'no record'), ('{"rows": [', 'after.json'), (kept.replace('"lots"', '"plots"'), 'lots is missing'),
                        (kept.replace('"seeds": [', '"seeds": [3, '), 'other settings or generator seeds'),
                        (kept.replace(load_split('digits', subset=1).sha256, 'f'*64), r'has other draws, too \(1\): name all')):
        record.write_text(broken)
        with pytest.raises(InputError, match=why): go('there', 1)


def test_the_comparison_is_about_few_shot_classes_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr('ltnb.experiments.load_split', lambda data, subset: load_split('digits', 2., subset=subset))
    with pytest.raises(InputError, match='few-shot classes'):
        run_experiment('after', 'digits', 'tiny', draws=['ldam'], out=tmp_path, workers=1, say=lambda line: None)


def test_every_method_is_drawn_from_in_ways_that_are_its_own():
    every = [way for ways in COMPARED.values() for way in ways]
    assert len(set(every)) == len(every) and len({way.name for way in every}) == len(every)
    # of the generators that a policy is tried with, plain draws are tried too
    assert {way.trained for way in every if way.policy} <= {way for ways in COMPARED.values() for way in (w.trained for w in ways if not w.policy)}
    assert harmonic(dict(recall=.5, class_consistency=1.)) == pytest.approx(2/3) and harmonic(dict(recall=None, class_consistency=1.)) == 0


GO = '''
from ltnb import experiments as e
from ltnb.specs import Recipe
if __name__ == "__main__":
    e.EXPERIMENTS["collapse"] = lambda usual: {Recipe(m): [usual] for m in ("ddpm", "cbdm")}
    e.run_experiment("collapse", "digits", "tiny", seeds=[0, 1], draws=["ldam"], out=OUT, workers=2)
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
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert workers and not alive
    made = {f: f.stat().st_mtime_ns for f in (out / 'generators').glob('*@*/training.json')}
    result = run_experiment('collapse', 'digits', 'tiny', seeds=[0, 1], draws=['ldam'], out=out, workers=1,
                            say=lambda line: None)
    assert [(r['method'], r['seed']) for r in result['rows']] == [('ddpm', 0), ('ddpm', 1), ('cbdm', 0), ('cbdm', 1)]
    assert all(f.stat().st_mtime_ns == t for f, t in made.items())
    assert json.loads((out / 'experiments/collapse.json').read_text()) == json.loads(json.dumps(result))


def lacking(recorded, table):
    "What rows of a table a record lacks, or has beside them, or has not of every draw and seed."
    draws, seeds = recorded['draws'], recorded['seeds']
    if isinstance(next(iter(table)), Recipe):       # a row each draw and seed
        asked = [(what.name, way.name, s, d) for what, ways in table.items() for way in ways for s in seeds for d in draws]
        of = lambda r, kind: kind(**{f.name: r[f.name] for f in fields(kind)}).name
        there = [(of(dict(r, guidance=None, policy=None), Recipe), of(r, Draw), r['seed'], r['draw']) for r in recorded['rows']
                 if r['figures']['few']['recall'] is not None]
    else:                                           # a row over all of them
        runs = {what.name: (len(draws), len(seeds) if what.recipe else 1, len(CLASSIFIER_SEEDS)) for what in table}
        asked = [(what.name, way.name, runs[what.name]) for what, ways in table.items() for way in ways]
        there = [(r['training_set'], r['learner'], torch.tensor(r['few_runs']).shape[:3]) for r in recorded['rows']]
    return set(asked) ^ set(there)


def test_recorded_experiments_have_every_row():
    "Of those with draws: older ones stay to be read."
    for path in sorted((ROOT / 'nbs/recorded').rglob('*.json')):
        recorded = json.loads(path.read_text())
        if path.stem in EXPERIMENTS and 'draws' in recorded:
            lacks = lacking(recorded, EXPERIMENTS[path.stem](Draw()))
            assert not lacks and len(recorded['draws']) >= 3, f'{path.name}: {lacks or recorded["draws"]}'


def test_the_recorded_comparison_has_every_method_and_every_way_to_draw():
    for path in (ROOT / 'nbs/recorded').rglob('after.json'):
        recorded = json.loads(path.read_text())
        of = lambda row: Recipe(**{f.name: row[f.name] for f in fields(Recipe)})
        there = {(r['draw'], r['compared']): [of(way) for way in r['curve']] for r in recorded['rows']}
        assert there == {(draw, m): ways for draw in recorded['draws'] for m, ways in (dict(real=[]) | COMPARED).items()}
        for row in recorded['rows']: assert all(len(way['few']) == len(recorded['seeds']) for way in row['curve'])


def test_a_record_that_lacks_a_row_is_seen():
    usual, table = Draw(), {Recipe('ddpm'): [Draw(), Draw(guidance=1.)]}
    row = dict(asdict(Recipe('ddpm')), **asdict(usual), seed=0, figures=dict(few=dict(recall=.5)))
    rows = [dict(row, draw=d, guidance=w) for d in ('ldam', 1) for w in (0., 1.)]
    recorded = dict(draws=['ldam', 1], seeds=[0], rows=rows)
    assert not lacking(recorded, table)
    assert lacking(dict(recorded, rows=recorded['rows'][:3]), table) == {('ddpm', Draw(guidance=1.).name, 0, 1)}
    row = dict(training_set='real', learner='ce', few_runs=[[[1., 2., 3.]]]*2)
    table = {TrainingSet(): [Learner()]}
    assert not lacking(dict(recorded, rows=[row]), table)
    for wrong in [], [dict(row, learner='la')], [dict(row, few_runs=row['few_runs'][:1])]:
        assert lacking(dict(recorded, rows=wrong), table)
