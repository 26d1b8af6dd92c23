"""Shared by all tests: no progress bars, one thread a process, image folders made on the fly, and studies made once.

Two processes of one thread each share the tests (pytest-xdist, as `make test` has it). All compute with one thread, as
sums of floats depend on the number of threads; the processes that tests start inherit it."""
import json
import os
import socket

os.environ.update(LTNB_PROGRESS='0', MPLBACKEND='agg', OMP_NUM_THREADS='1')     # before torch is imported

from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

ROOT = Path(__file__).parents[1]
SLOW = ('test_browser.py', 'test_notebooks.py', 'test_team.py')      # whole files of what takes long
FIRST = ('test_browser.py', 'test_faults.py', 'test_team.py', 'test_notebooks.py', 'test_study.py', 'test_widgets.py',
         'test_experiments.py')     # the longest, run first so that no process still has one at the end


def pytest_configure(config):   # NumPy 2 warns about how diffusers and matplotlib convert tensors: theirs to fix
    config.addinivalue_line('filterwarnings', 'ignore:__array__ implementation:DeprecationWarning')
    config.addinivalue_line('markers', "slow: takes long (kills, teams, browser, notebooks, whole studies); "
                                       "pytest -m 'not slow' leaves it out")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
    for item in items:
        if item.path.name in SLOW: item.add_marker(pytest.mark.slow)


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    import torch
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """`once(name, make)`: what `make(path)` returned, as read back from JSON, and the path. The first process that asks calls `make`;
    all others share its result. Tests may only read the path; that no file is added or removed is checked."""
    root = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ: root = root.parent      # each process has a folder in it
    there = {}
    def made(name, make):
        path, returned = root / name, root / f'{name}.json'
        with FileLock(root / f'{name}.lock'):
            if not returned.exists(): returned.write_text(json.dumps(make(path)))
        there[path] = set(path.rglob('*'))
        return json.loads(returned.read_text()), path
    yield made
    for path, files in there.items(): assert set(path.rglob('*')) == files, f'a test wrote to {path}'


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
def bars(once):
    "The folder of the study below."
    return once('bars', lambda path: str(make_folder(path, (24, 12, 6))))[1]


@pytest.fixture(scope='session')
def study(bars, once):
    "A tiny study of the bars: its results and its folder. A test that changes the folder works on a copy."
    from ltnb.sources import load_split
    from ltnb.study import run_study
    quiet = dict(seeds=[0], say=lambda line: None)
    return once('study', lambda out: run_study(load_split(f'folder:{bars}'), out, 'tiny', **quiet))


@pytest.fixture(scope='session')
def stage_study(once):
    "The folder of a tiny study with everything that the stage notebooks show, on their split."
    from ltnb.runs import notebook_run
    from ltnb.specs import CLASSIFIERS, GENERATORS
    from ltnb.study import run_study
    code = ''.join(p.read_text() for p in (ROOT / 'nbs').glob('[1-4]0_*.ipynb'))
    rows, generators = ([name for name in table if f"'{name}'" in code] for table in (CLASSIFIERS, GENERATORS))
    return once('stages', lambda out: run_study(notebook_run().split, out, 'tiny', rows=rows, generators=generators,
                                                say=lambda line: None))[1]


def free_port():
    "A port of this machine that nobody listens at."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@pytest.fixture
def only():
    """`only(table, *names, **rows)`: for one test, reduces a table of `ltnb.specs` to the rows `names` and adds `rows`.
    The table is changed in place, as all modules share it, and restored afterwards, in its order."""
    before = []
    def keep(table, *names, **rows):
        before.append((table, dict(table)))
        for name in set(table) - set(names): del table[name]
        table.update(rows)
    yield keep
    for table, rows in reversed(before):
        table.clear()
        table.update(rows)
