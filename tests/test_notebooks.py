"Every notebook runs from top to bottom, at the size `tiny`, in one process that imports torch once."
import shutil

import nbformat
import pytest
from conftest import ROOT
from nbdev.test import test_nb as run_notebook

from ltnb.core import TrainingError
from ltnb.notebooks import run_notebooks


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


def test_a_kernel_that_is_killed_is_said_in_one_line(tmp_path):
    cell = nbformat.v4.new_code_cell('import os, signal; os.kill(os.getpid(), signal.SIGKILL)')
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / '10_killed.ipynb')
    with pytest.raises(TrainingError, match='10_killed.ipynb: its kernel died') as e: run_notebooks(tmp_path, tmp_path / 'run')
    assert '\n' not in str(e.value) and not (tmp_path / 'run').exists()
