"How long a run will take, from a few steps; that it takes about so long is measured in benchmarks/quick.py."
import os
import time
from types import SimpleNamespace

import pytest
import torch

from ltnb.core import save_tensors
from ltnb.data import ImageSet, Split
from ltnb.forecast import LONG, _bounded, _ladder, _left, forecast, forecast_text
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.specs import GENERATORS, REAL, Learner, Recipe
from ltnb.study import study_parts
from ltnb.training import checkpoint_of


def test_a_forecast_counts_what_is_left_to_do(study, bars, tmp_path):
    _, out = study
    split = load_split(f'folder:{bars}')
    threads = torch.get_num_threads()
    runs = [Run(split, folder, 'tiny') for folder in (tmp_path / 'new', out)]
    ahead, done = (forecast(run, study_parts(run, [0], [0]).values()) for run in runs)
    assert all(v > 0 for v in ahead['seconds'].values()) and not (tmp_path / 'new').exists()
    assert set(done['seconds'].values()) == {0} and ahead['memory'] > 1e8 and ahead['disk'] > 1e6 and done['disk'] == 0      # what is there needs no room
    both = forecast(runs, study_parts(runs[0], [0], [0]).values())      # draws, one of which is there
    assert both['disk'] == ahead['disk'] and all(v > 0 for v in both['seconds'].values())
    assert torch.get_num_threads() == threads and os.environ['LTNB_PROGRESS'] == '0'
    assert sum(p.stat().st_size for p in out.rglob('*') if p.is_file()) == pytest.approx(ahead['disk'], rel=.6)


def test_steps_that_a_checkpoint_has_behind_it_are_not_ahead(tmp_path):
    run, generator, classifier = Run(load_split('digits'), tmp_path, 'small'), (GENERATORS['ddpm'], 0), (REAL, Learner(), None, 0)
    def ahead(): # steps
        return {kind: times for kind, _, times in _left(run, [(Run.generator, *generator), (Run.trained, *classifier)])[0]}
    all_ = ahead()
    assert all_['generators'] == run.settings.generator.steps and all_['classifiers'] == run.settings.classifier.steps
    for path, done in (run.generator_folder(*generator), 300), (run.classifier_file(*classifier), 50):
        save_tensors(checkpoint_of(path), dict(x=torch.ones(2)), done=done)
    assert ahead() == dict(all_, generators=all_['generators'] - 300, classifiers=all_['classifiers'] - 50)
    for path in tmp_path.rglob('*.checkpoint.safetensors'): path.write_bytes(b'cut')
    assert ahead() == all_


@pytest.mark.parametrize('threads', [1, 2])
def test_a_forecast_is_for_as_many_workers_as_are_asked_for_but_no_more_than_cores(threads, tmp_path, monkeypatch):
    import ltnb.forecast
    jobs = dict(generators=[60., 60.], samples=[30.], classifiers=[1., 1., 4.])
    ahead = dict(jobs=[jobs, jobs], memory=100., disk=1., extrapolated=False)    # two draws, one after the other
    monkeypatch.setattr(ltnb.forecast, '_forecast', lambda runs, wanted: dict(ahead, used=torch.get_num_threads()))
    monkeypatch.setattr(os, 'cpu_count', lambda: 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for workers, at_once, used in (None, threads, 1), (1, 1, threads), (2, 2, 1), (3, 3, 1), (8, 3, 1):
            of = forecast([], [], workers)
            lanes = {1: dict(generators=120., samples=30., classifiers=6.), 2: dict(generators=60., samples=30., classifiers=4.)}
            assert of['seconds'] == {k: 2 * v for k, v in lanes[min(at_once, 2)].items()} and of['used'] == used     # no job is shared out
            assert of['memory'] == {1: 100., 2: 300., 3: 400., 8: 900.}[workers or at_once]
    finally: torch.set_num_threads(before)


def test_a_team_makes_as_many_classifiers_at_once_as_it_has_processes(monkeypatch):
    import ltnb.forecast
    jobs = dict(generators=[60., 60.], samples=[30.], classifiers=[1., 1., 4.])
    monkeypatch.setattr(ltnb.forecast, '_forecast', lambda runs, wanted: dict(jobs=[jobs], memory=100., disk=1., extrapolated=False))
    monkeypatch.setattr(ltnb.forecast, 'team', lambda: SimpleNamespace(num_processes=2))
    monkeypatch.setattr(ltnb.forecast, 'usual_workers', lambda: 4)
    of = forecast([], [])
    assert of['seconds'] == dict(generators=60., samples=15., classifiers=4.) and of['memory'] == 100.


def test_nothing_is_measured_that_is_not_left_to_do(study, bars, tmp_path, monkeypatch):
    split = load_split(f'folder:{bars}')
    wide, new, done = Run(split, tmp_path / 'wide', 'paper'), Run(split, tmp_path / 'new', 'tiny'), Run(split, study[1], 'tiny')
    rows = ['ce', 'la', 'ce-wide', 'ce+cbdm', 'sau', 'sau-unaware', 'ce+adjusted', 'ce+cbdm+aid']
    measured = {key for _, key, _ in _left(wide, study_parts(wide, [0], [0], rows).values())[0]}
    ways = {(m.method, m.like_sau, m.aware) for m in measured if isinstance(m, Learner)}
    assert ways == {('ce', False, True), ('ce', True, True), ('sau', False, True), ('sau', False, False)}
    assert {m.aid for m in measured if isinstance(m, Recipe)} == {0, .1}
    def refuse(*args): raise AssertionError('a step was taken')
    monkeypatch.setattr('ltnb.forecast._bounded', refuse)
    assert sum(forecast(done, study_parts(done, [0], [0]).values())['seconds'].values()) == 0
    with pytest.raises(AssertionError, match='a step was taken'): forecast(new, study_parts(new, [0], [0]).values())


def test_what_would_take_long_is_measured_on_few_and_small_images_and_extrapolated():
    split = Split('photographs', *[ImageSet(torch.zeros(300, 3, 64, 64, dtype=torch.uint8), torch.arange(300) % 3)]*2, list('abc'))
    for a_pixel, rungs, last in (1e-9, 5, True), (1e-6, 5, True), (1e-5, 4, False), (1e-2, 1, False):
        seen = []
        def measure(n, s):
            seen.append((n, s.image_shape))
            assert len(s.train) <= 1024 and set(s.train.labels.tolist()) == {0, 1, 2}
            return a_pixel * n * s.image_shape[0] * s.image_shape[1] * s.image_shape[2]
        seconds, extrapolated = _bounded(measure, _ladder(split, 64))
        assert seen == [(2, (3, 32, 32)), (8, (3, 32, 32)), (32, (3, 32, 32)), (64, (3, 32, 32)), (64, (3, 64, 64))][:rungs]
        assert seconds == pytest.approx(a_pixel * 64 * 3 * 64 * 64) and extrapolated is not last
        assert max([0, *(a_pixel * n * c * h * w for n, (c, h, w) in seen[1:])]) <= LONG


def test_a_forecast_of_photographs_at_the_size_of_the_papers_takes_no_full_step(tmp_path, monkeypatch):
    "A step of 64 images of 64×64 takes a core over a minute; two of 32×32 are measured."
    split = Split('photographs', *[ImageSet(torch.zeros(40, 3, 64, 64, dtype=torch.uint8), torch.arange(40) % 4)]*2, list('abcd'))
    run, start = Run(split, tmp_path / 'none', 'paper'), time.process_time()
    ahead = forecast(run, study_parts(run, [0], [0], ['ce+ddpm', 'sau'], ['ddpm']).values())
    assert ahead['extrapolated'] and ahead['memory'] is None and ahead['seconds']['generators'] > 1e5
    assert 'extrapolated from steps of fewer or smaller images' in forecast_text(ahead) and time.process_time() - start < 60


def test_a_forecast_in_words():
    seconds = dict(generators=100., samples=30., classifiers=7.)
    assert forecast_text(dict(seconds=seconds, memory=2.5e9, disk=1.2e8)) == (
        'about 2.3 minutes ahead, by a few steps measured here '
        '(generators 1.7 minutes, samples 30 s, classifiers 7 s); 2.5 GB of memory, 0.12 GB on disk')
    assert forecast_text(dict(seconds=dict(all=40 * 86400.), memory=None, disk=3e9)) == (
        'about 40 days ahead, by a few steps measured here (all 40 days); 3 GB on disk')
