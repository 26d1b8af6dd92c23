"Every notebook runs from top to bottom, at the size `tiny`, in one process that imports torch once."
import shutil

import pytest
from conftest import ROOT
from nbdev.test import test_nb as run_notebook


@pytest.fixture(scope='module')
def run(stage_study, tmp_path_factory):
    return shutil.copytree(stage_study, tmp_path_factory.mktemp('notebooks') / 'run')


@pytest.mark.parametrize('name', [p.name for p in sorted((ROOT / 'nbs').glob('[0-9]*.ipynb'))])
def test_notebook(name, run, monkeypatch):
    monkeypatch.setenv('LTNB_RUN', str(run))
    monkeypatch.setenv('LTNB_SIZE', 'tiny')
    monkeypatch.setenv('IN_TEST', '1')          # the runner sets it and leaves it set
    ok, seconds = run_notebook(ROOT / 'nbs' / name, skip_flags=('notest', 'slow', 'cuda'), basepath=ROOT)
    assert ok, f'{name} failed after {seconds:.0f} s: see the output above'
