"A folder holds one run: locked while in use, never overwritten by another."
import pytest

from ltnb.core import InputError, load_json, load_sealed, save_json
from ltnb.folder import LAYOUT, MADE, is_whole, run_folder, save_manifest, study_of


def refused(out, identity, says, **kwargs):
    before = {p: p.read_bytes() for p in out.rglob('*') if p.is_file() and p.name != '.lock'}
    with pytest.raises(InputError, match=says) as e:
        with run_folder(out, identity, **kwargs): raise AssertionError('it was let in')
    assert '\n' not in str(e.value)
    assert before == {p: p.read_bytes() for p in out.rglob('*') if p.is_file() and p.name != '.lock'}


def test_a_folder_says_what_it_holds_and_refuses_another(tmp_path):
    for _ in range(2):      # once made, once found
        with run_folder(tmp_path / 'new', dict(seeds=[0], data='x')) as out: assert out.is_dir()
    assert load_sealed(out / 'study.json') == dict(layout=LAYOUT, identity=dict(seeds=[0], data='x'))
    refused(out, dict(seeds=[1], data='x'), 'holds another study .its seeds differs.')
    refused(out, dict(seeds=[1], data='y'), 'holds another study .its seeds, data differ.')


def test_a_folder_of_an_older_layout_is_refused_in_one_line(tmp_path):
    save_json(tmp_path / 'study.json', dict(layout=LAYOUT - 1, identity=dict(seeds=[0])))
    refused(tmp_path, dict(seeds=[0]), 'was made by an older version of ltnb: give another --out, or --fresh')
    with run_folder(tmp_path, dict(seeds=[0]), fresh=True):
        assert load_json(tmp_path / 'study.json')['layout'] == LAYOUT


def test_a_study_json_that_is_not_ours_is_left_alone_and_so_is_what_lies_beside_it(tmp_path):
    (tmp_path / 'samples').mkdir()
    (tmp_path / 'samples/mine.txt').write_text('keep')
    for theirs in '{"title": "My study"}', '{"title": ', '':
        (tmp_path / 'study.json').write_text(theirs)
        refused(tmp_path, dict(seeds=[0]), 'no study.json of ltnb: --fresh deletes nothing there', fresh=True)
        assert (tmp_path / 'study.json').read_text() == theirs and (tmp_path / 'samples/mine.txt').read_text() == 'keep'
    save_json(tmp_path / 'study.json', dict(title='My study'))
    refused(tmp_path, dict(seeds=[0]), 'study.json is not of ltnb: give another --out$')
    assert load_json(tmp_path / 'study.json') == dict(title='My study') and (tmp_path / 'samples/mine.txt').read_text() == 'keep'


def test_a_folder_in_use_is_locked_and_free_again_afterwards(tmp_path):
    pytest.importorskip('fcntl')        # no such locks on Windows
    with run_folder(tmp_path, {}): refused(tmp_path, {}, 'another ltnb study is running in')
    with run_folder(tmp_path, {}) as out: assert out == tmp_path


def test_fresh_deletes_what_a_run_made_and_nothing_else(tmp_path):
    with run_folder(tmp_path, dict(a=1)): pass
    for name in [n for n in MADE if n not in ('experiments', 'study.json')]:
        if '.' in name: (tmp_path / name).write_text('{}')
        else: (tmp_path / name).mkdir()
    (tmp_path / 'mine.txt').write_text('keep')
    with run_folder(tmp_path, dict(a=2), fresh=True): pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.lock', 'mine.txt', 'study.json']
    (tmp_path / 'study.json').unlink()
    (tmp_path / 'results.json').write_text('{}')
    refused(tmp_path, dict(a=2), 'no study.json of ltnb: --fresh deletes nothing there', fresh=True)
    refused(tmp_path, dict(a=2), 'is of another study .no study.json beside it.')


def test_notebooks_where_no_study_is_are_somebodys_own(tmp_path):
    (tmp_path / 'notebooks').mkdir()
    (tmp_path / 'notebooks/10_collapse.ipynb').write_text('mine')
    with run_folder(tmp_path, dict(a=1), fresh=True): pass
    assert (tmp_path / 'notebooks/10_collapse.ipynb').read_text() == 'mine'


def test_results_beside_a_damaged_study_json_are_nobodys(tmp_path):
    with run_folder(tmp_path, dict(preset='small')):
        save_json(tmp_path / 'results.json', dict(preset='small'))
        save_manifest(tmp_path)
    assert is_whole(tmp_path)
    text = (tmp_path / 'study.json').read_text()
    (tmp_path / 'study.json').write_text(text.replace('small', 'smell'))
    with pytest.raises(InputError, match='is damaged: run `ltnb study` on it once more'): study_of(tmp_path)
    with run_folder(tmp_path, dict(preset='desk')): assert not is_whole(tmp_path)


def test_experiments_are_deleted_by_no_option(tmp_path):
    kind = dict(kind='experiments', data='x')
    with run_folder(tmp_path, kind) as out: (out / 'generators').mkdir()      # killed before there is a result
    for made in 'generators', 'experiments':
        (tmp_path / made).mkdir(exist_ok=True)
        refused(tmp_path, dict(data='x', seeds=[0]), 'is a folder of experiments: --fresh deletes nothing there', fresh=True)
    with pytest.raises(InputError, match='give another --out$'):
        with run_folder(tmp_path, dict(data='x', seeds=[0])): pass
    with run_folder(tmp_path, kind): pass


def test_a_folder_with_aside_in_its_name_is_looked_at(tmp_path):
    out = tmp_path / 'study.aside'
    (out / 'samples').mkdir(parents=True)
    (out / 'samples/a.safetensors').write_bytes(b'a')
    save_manifest(out)
    assert not is_whole(out)        # without results
    save_json(out / 'results.json', {})
    save_manifest(out)
    assert is_whole(out)
    (out / 'samples/a.safetensors').write_bytes(b'b')
    assert not is_whole(out)


def test_marks_on_samples_of_the_same_folder_and_folders_of_experiments_are_said(tmp_path):
    with run_folder(tmp_path / 'a', dict(marks=None, data='x')): pass
    refused(tmp_path / 'a', dict(marks=[1], data='x'), 'after copying generators/, samples/')
    with run_folder(tmp_path / 'b', dict(kind='experiments', settings=dict(preset='tiny'))): pass
    with pytest.raises(InputError, match='is a folder of experiments, not of a study'): study_of(tmp_path / 'b')
