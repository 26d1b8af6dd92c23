"Every notebook runs from top to bottom, at the size `tiny`, in one process that imports torch once."
import shutil

import nbformat
import pytest
from conftest import ROOT
from nbdev.test import test_nb as run_notebook

from ltnb.core import InputError, TrainingError
from ltnb.notebooks import run_notebooks, stage_notebooks


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


def test_what_is_no_notebook_or_lies_where_executed_ones_are_kept_is_said_before_the_study(tmp_path):
    for text in '', '{', '[]', '{"a": 1}':
        (tmp_path / '10_broken.ipynb').write_text(text)
        with pytest.raises(InputError, match='10_broken.ipynb is not a notebook$'): stage_notebooks(tmp_path, tmp_path / 'run')
    with pytest.raises(InputError, match='is where executed notebooks are kept'): stage_notebooks(tmp_path / 'run/notebooks', tmp_path / 'run')


def test_an_executed_notebook_that_is_damaged_is_made_again(tmp_path):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('6 * 7')]), tmp_path / '10_sound.ipynb')
    made, = run_notebooks(tmp_path, tmp_path / 'run')
    whole = made.read_bytes()
    made.write_bytes(whole[:len(whole) // 2])
    assert run_notebooks(tmp_path, tmp_path / 'run') == [made]
    assert nbformat.read(made, as_version=4).cells[0].outputs[0]['data']['text/plain'] == '42'
