"Every notebook runs from top to bottom, at the size `tiny`, in one process that imports torch once."
import pytest
from conftest import ROOT
from nbdev.test import test_nb as run_notebook


@pytest.mark.parametrize('name', [p.name for p in sorted((ROOT / 'nbs').glob('[0-9]*.ipynb'))])
def test_notebook(name, stage_study, monkeypatch):
    monkeypatch.setenv('LTNB_RUN', str(stage_study))
    monkeypatch.setenv('LTNB_SIZE', 'tiny')
    monkeypatch.setenv('IN_TEST', '1')          # the runner sets it and leaves it set
    ok, seconds = run_notebook(ROOT / 'nbs' / name, skip_flags=('notest', 'slow', 'cuda'), basepath=ROOT)
    assert ok, f'{name} failed after {seconds:.0f} s: see the output above'
