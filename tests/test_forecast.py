"How long a run will take, from a few steps; that it takes about so long is measured in benchmarks/quick.py."
import os

import pytest
import torch

from ltnb.forecast import forecast, forecast_text
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.study import study_parts


def test_a_forecast_counts_what_is_left_to_do(study, bars, tmp_path):
    _, out = study
    split = load_split(f'folder:{bars}')
    threads = torch.get_num_threads()
    runs = [Run(split, folder, 'tiny') for folder in (tmp_path / 'new', out)]
    ahead, done = (forecast(run, study_parts(run, [0], [0]).values()) for run in runs)
    assert all(v > 0 for v in ahead['seconds'].values()) and not (tmp_path / 'new').exists()
    assert set(done['seconds'].values()) == {0} and ahead['memory'] > 1e8 and done['disk'] == ahead['disk'] > 1e6
    assert torch.get_num_threads() == threads and os.environ['LTNB_PROGRESS'] == '0'
    assert sum(p.stat().st_size for p in out.rglob('*') if p.is_file()) == pytest.approx(ahead['disk'], rel=.6)


def test_a_forecast_in_words():
    seconds = dict(generators=100., samples=30., classifiers=7.)
    assert forecast_text(dict(seconds=seconds, memory=2.5e9, disk=1.2e8)) == (
        'about 2.3 minutes ahead, by a few steps measured here '
        '(generators 1.7 minutes, samples 30 s, classifiers 7 s); 2.5 GB of memory, 0.12 GB on disk')
    assert forecast_text(dict(seconds=dict(all=40 * 86400.), memory=None, disk=3e9)) == (
        'about 40 days ahead, by a few steps measured here (all 40 days); 3 GB on disk')
