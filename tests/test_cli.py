"The command line: what it says, and bad input in one line."
import re
import shutil
import subprocess
import sys

import pytest
import torch

from ltnb.cli import main
from ltnb.core import InputError
from ltnb.experiments import EXPERIMENTS
from ltnb.sources import load_split


def status(*args, capsys):
    with pytest.raises(SystemExit) as e: main([str(a) for a in args])
    err = capsys.readouterr().err
    assert err.startswith('ltnb: ') and err.count('\n') == 1, err
    return e.value.code, err


def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, folder):
    (tmp_path / 'file').write_text('mine')
    (tmp_path / 'theirs').mkdir()
    (tmp_path / 'theirs/results.json').write_text('{"schema": 9}')
    (tmp_path / 'empty').mkdir()
    for args, says in [
            (['study', '--data', 'digit'], 'unknown data set'),
            (['study', '--data', f'folder:{tmp_path / "empty"}'], '0 class folders'),
            (['study', '--data', f'cifar10:{tmp_path}'], 'data_batch_1 is missing'),
            (['study', '--data', 'digits', '--imbalance-factor', '.5'], 'at least 1'),
            (['study', '--data', 'digits', '--imbalance-factor', 'inf', '--profile', 'pareto', '--out', tmp_path / 'new'], 'at least 1 and finite, not inf'),
            (['study', '--data', 'digits', '--imbalance-factor', '500'], 'less than 114'),
            (['study', '--imbalance-factor', 'x'], 'invalid float'),
            (['study', '--data', 'digits', '--preset', 'tiny', '--out', tmp_path / 'file'], 'is a file'),
            (['study', '--data', 'digits', '--preset', 'tiny', '--out', tmp_path / 'file/below'], 'cannot be made'),
            (['study', '--data', 'digits', '--preset', 'tiny', '--out', tmp_path / 'theirs'], 'of another study'),
            (['study', '--data', 'digits', '--preset', 'tiny', '--out', tmp_path / 'theirs', '--fresh'],
             'deletes nothing'),
            (['study', '--data', 'digits', '--seeds', '0,0'], 'must differ'),
            (['study', '--preset', 'tiny', '--notebooks', 'nbs'], '--notebooks goes with'),
            (['study', '--features', 'ce', '--notebooks', 'nbs'], '--notebooks goes with'),
            (['study', '--imbalance-factor', '10', '--notebooks', 'nbs'], '--notebooks goes with'),
            (['study', '--rows', 'ce', '--notebooks', 'nbs'], '--notebooks goes with'),
            (['study', '--generators', 'ddpm', '--notebooks', 'nbs'], '--notebooks goes with'),
            (['study', '--data', 'digits', '--imbalance-factor', '1', '--draws', 'ldam,1', '--out', tmp_path / 'new'], 'its draws are all alike'),
            (['study', '--features', 'vgg'], 'they are pixels, ce, inception or timm:NAME'),
            (['study', '--data', 'digits', '--network', 'vgg'], "unknown network 'vgg': it is one of SmallNet"),
            (['study', '--data', 'digits', '--rows', 'ce,gan', '--out', tmp_path / 'new'],
             "unknown name 'gan': it is one of ce"),
            (['study', '--data', 'digits', '--generators', 'ddpm,gan', '--out', tmp_path / 'new'],
             'one of ddpm, cbdm, cbdm+aid'),
            (['study', '--data', 'digits', '--draws', 'ldam,bbn'], "'ldam,bbn': draws are ldam"),
            (['study', '--data', 'digits', '--draws', '1,2,1'], 'each once'),
            (['study', '--data', f'folder:{folder}', '--draws', 'ldam,1', '--out', tmp_path / 'new'],
             'its draws are all alike, as its classes are taken as they are: give --draws ldam'),
            (['study', '--data', f'folder:{folder}', '--draws', '7', '--out', tmp_path / 'new'], 'its draws are all alike'),
            (['study', '--data', 'digits', '--draws', 'ldam,0'], 'of seed 0'),
            (['study', '--data', f'folder:{folder}', '--preset', 'tiny', '--rows', 'ce,oracle', '--out', tmp_path / 'new'],
             'there is no row oracle: the balanced set of these images is not known'),
            (['study', '--data', 'digits', '--preset', 'tiny', '--rows', 'ce-wide', '--out', tmp_path / 'new'], 'there is no row ce-wide: SAU has the settings'),
            (['study', '--data', 'digits', '--preset', 'tiny', '--generators', 'ddpm+between:w=1', '--out', tmp_path / 'new'], 'leave w = 1 out'),
            (['experiment', 'cbdm', '--draws', ''], 'draws are ldam'),
            (['study', '--draws', str(2**32)], 'below 2**32'),
            (['study', '--notebooks', tmp_path / 'empty'], 'no stage notebooks there'),
            (['experiment', 'collapse', 'cbmd', '--out', tmp_path / 'new'], "unknown experiment 'cbmd'"),
            (['experiment', 'alchemy'], 'collapse, cbdm, samplers'),
            (['experiment', 'cbdm', '--data', f'folder:{folder}', '--out', tmp_path / 'e'], 'balanced training set'),
            (['experiment', 'cbdm', '--data', 'digits', '--preset', 'tiny', '--out', tmp_path / 'theirs'],
             'of another study'),
            (['stydy'], 'invalid choice')]:
        code, err = status(*args, capsys=capsys)
        assert code == 2 and says in err, (args, err)
    assert (tmp_path / 'file').read_text() == 'mine' and not (tmp_path / 'new').exists()
    assert (tmp_path / 'theirs/results.json').read_text() == '{"schema": 9}'


def test_a_full_disk_is_one_line(capsys, tmp_path, monkeypatch, folder):
    import ltnb.core
    real = ltnb.core.to_safetensors

    def full(*args):
        if 'images' not in args[0]: return real(*args)      # samples no longer fit
        raise OSError(28, 'No space left on device', str(tmp_path / 'out/samples/ddpm.safetensors'))

    monkeypatch.setattr(ltnb.core, 'to_safetensors', full)
    code, err = status('study', '--data', f'folder:{folder}', '--preset', 'tiny', '--seeds', '0', '--rows', 'ce',
                       '--generators', 'ddpm', '--out', tmp_path / 'out', capsys=capsys)
    assert code == 2 and 'No space left on device' in err and 'ddpm.safetensors' in err
    assert not (tmp_path / 'out/samples/ddpm.safetensors').exists() and (tmp_path / 'out/generators/ddpm').exists()


def test_predict_says_a_line_and_leaves_nothing(bars, tmp_path, capsys):
    main(['study', '--data', f'folder:{bars}', '--preset', 'tiny', '--out', str(tmp_path / 'out'), '--predict'])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and 'ahead, by a few steps measured here (generators' in said[1] and 'on disk' in said[1]
    assert not (tmp_path / 'out').exists()


def test_predict_counts_what_the_study_would_make(bars, study, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('ltnb.study.forecast', lambda runs, wanted, workers: dict(there=[r.out.exists() for r in runs], workers=workers))
    monkeypatch.setattr('ltnb.study.forecast_text', str)
    def predicted(*args):
        main(['study', '--data', f'folder:{bars}', '--preset', 'tiny', '--seeds', '0', '--out', str(study[1]), '--predict', *args])
        return capsys.readouterr().out.splitlines()[-1]
    assert predicted() == str(dict(there=[True], workers=1))         # as `tiny` is made
    assert predicted('--fresh') == str(dict(there=[False], workers=1))
    assert 'holds another study (its settings differs)' in status('study', '--data', f'folder:{bars}', '--preset', 'small', '--seeds', '0',
                                                                   '--out', study[1], '--predict', capsys=capsys)[1]


def test_features_that_cannot_be_had_leave_the_folder_as_it_was(bars, study, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('ltnb.study.feature_space', lambda name: (_ for _ in ()).throw(InputError(f'{name} cannot be had')))
    def files(out): return {p: p.read_bytes() for p in out.rglob('*') if p.is_file()}
    out = shutil.copytree(study[1], tmp_path / 'out')
    for where, args in ((out, ['--fresh']), (tmp_path / 'new', [])):
        before = files(where)
        said = status('study', '--data', f'folder:{bars}', '--preset', 'tiny', '--features', 'inception', '--out', where, *args, capsys=capsys)
        assert said[1] == 'ltnb: inception cannot be had\n' and files(where) == before, where


def test_data_pack_by_command(bars, tmp_path, capsys):
    main(['data', 'pack', '--data', f'folder:{bars}', str(tmp_path / 'bars.pack')])
    assert 'to be used as --data pack:' in capsys.readouterr().out
    assert load_split(f'pack:{tmp_path / "bars.pack"}').sha256 == load_split(f'folder:{bars}').sha256
    with pytest.raises(SystemExit) as e:
        main(['data', 'pack', '--data', f'folder:{bars}', '--full', str(tmp_path / 'x')])
    assert e.value.code == 2 and 'balanced set is not known' in capsys.readouterr().err
    assert not (tmp_path / 'x').exists()


def modules(code): # that are imported once `code` has run in a process of its own
    lines = 'import sys', 'try:', f'    {code}', 'except SystemExit as e: assert not e.code, e.code'
    code = '\n'.join([*lines, 'print("MODULES", *sys.modules)'])
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    said, _, names = done.stdout.rpartition('MODULES')
    return said, set(names.split())


HEAVY = {'torch', 'numpy', 'diffusers', 'torchvision', 'matplotlib', 'PIL'}


def test_importing_ltnb_imports_nothing_heavy():
    assert not modules('import ltnb; ltnb.__version__')[1] & HEAVY
    import ltnb
    with pytest.raises(AttributeError): ltnb.nonsense


@pytest.mark.parametrize('args, says', [(['--help'], 'study'), (['study', '--help'], '--generator-seeds'),
                                        (['--version'], 'ltnb ')], ids=['ltnb', 'study', 'version'])
def test_help_imports_nothing_heavy(args, says):
    said, names = modules(f'import runpy; sys.argv = ["ltnb", *{args}]; runpy.run_module("ltnb", run_name="__main__")')
    assert says in said and 'ltnb.cli' in names and not names & HEAVY


def test_the_help_names_every_experiment(capsys):
    with pytest.raises(SystemExit): main(['experiment', '--help'])
    named = re.search(r'NAME (\w+, .*?); several', ' '.join(capsys.readouterr().out.split()))[1]
    assert set(re.split(', | or ', named)) == {*EXPERIMENTS, 'after'}


@pytest.mark.parametrize('error, status', [(KeyboardInterrupt(), 130), ('InputError', 2), ('TrainingError', 1),
                                           (OSError(5, 'Input/output error', 'disk'), 2), (MemoryError(), 1), ('OutOfMemoryError', 1)], ids=str)
def test_the_status_says_what_went_wrong(error, status, monkeypatch, capsys):
    import ltnb.core
    import ltnb.experiments
    if error == 'OutOfMemoryError': error = torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')
    if isinstance(error, str): error = getattr(ltnb.core, error)('one line')
    def run(*args): raise error
    monkeypatch.setattr(ltnb.experiments, 'run_experiment', run)
    with pytest.raises(SystemExit) as e: main(['experiment', 'cbdm'])
    said = capsys.readouterr().err
    assert e.value.code == status and said.startswith('ltnb: ') and said.count('\n') == 1
