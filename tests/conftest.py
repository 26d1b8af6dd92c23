"Shared by all tests: one torch process, no progress bars, image folders made on the fly, and a study made once."
import os

os.environ['LTNB_PROGRESS'] = '0'
os.environ['MPLBACKEND'] = 'agg'

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SLOW = ('test_browser.py', 'test_notebooks.py', 'test_team.py')      # whole files of what takes long


def pytest_configure(config):   # NumPy 2 on what diffusers and matplotlib do with tensors: theirs to mend
    config.addinivalue_line('filterwarnings', 'ignore:__array__ implementation:DeprecationWarning')
    config.addinivalue_line('markers', "slow: takes long (kills, teams, browser, notebooks, whole studies); "
                                       "pytest -m 'not slow' leaves it out")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in SLOW: item.add_marker(pytest.mark.slow)


def make_folder(root, counts, size=8, test=8):
    "An image folder of simple shapes: class c is a bar at row c, with noise; `counts` training images a class."
    random = np.random.RandomState(0)
    for c, n in enumerate(counts):
        for part, k in ('train', n), ('test', test):
            folder = Path(root) / part / f'class{c}'
            folder.mkdir(parents=True)
            for i in range(k):
                a = random.randint(0, 60, (size, size, 3), dtype=np.uint8)
                a[c * size // len(counts):(c + 1) * size // len(counts)] += 180
                Image.fromarray(a).save(folder / f'{i:03}.png')
    return Path(root)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / 'bars', (24, 12, 6))


@pytest.fixture(scope='session')
def bars(tmp_path_factory):
    "The folder of the study below: to be read only."
    return make_folder(tmp_path_factory.mktemp('data') / 'bars', (24, 12, 6))


@pytest.fixture(scope='session')
def study(bars, tmp_path_factory):
    "A tiny study of the bars, made once: its results and its folder, of which a test that changes it takes a copy."
    from ltnb.sources import load_split
    from ltnb.study import run_study
    out = tmp_path_factory.mktemp('out') / 'study'
    return run_study(load_split(f'folder:{bars}'), out, 'tiny', seeds=[0], say=lambda line: None), out


@pytest.fixture(scope='session')
def digits_study(tmp_path_factory):
    "The folder of a tiny study of the digits, made once."
    from ltnb.sources import load_split
    from ltnb.study import run_study
    out = tmp_path_factory.mktemp('digits') / 'study'
    run_study(load_split('digits'), out, 'tiny', say=lambda line: None)
    return out


@pytest.fixture
def only():
    """`only(table, *names, **rows)`: for this test a table of `ltnb.specs` has those of its rows, and these new ones.
    In place, as all modules have the same table, and afterwards with all its rows in their order."""
    before = []
    def keep(table, *names, **rows):
        before.append((table, dict(table)))
        for name in set(table) - set(names): del table[name]
        table.update(rows)
    yield keep
    for table, rows in reversed(before):
        table.clear()
        table.update(rows)


@pytest.fixture
def few_rows(only):
    "For this test a study has only those classifiers that its results must have."
    from ltnb.specs import CLASSIFIERS
    only(CLASSIFIERS, 'ce', 'ce+ddpm', 'ce+cbdm', 'ce+cbdm+diffult', 'ce+cbdm+filter', 'ce+cbdm+filter+weight', 'sau')
