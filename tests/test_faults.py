"What comes in from outside, and what breaks: each fault really made, and what is said of it read."
import errno
import json
import os
import pickle
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import make_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ltnb.cli import main
from ltnb.core import Damaged, InputError, TrainingError, atomic, clean, load_sealed, load_tensors, save_tensors, set_aside
from ltnb.data import pack
from ltnb.folder import is_whole, run_folder
from ltnb.generators import _save_generator, load_generator
from ltnb.marks import load_marks, marks_for
from ltnb.report import report
from ltnb.sources import load_split
from ltnb.study import run_study
from ltnb.training import train

QUIET = dict(seeds=[0], say=lambda line: None)
ROWS = ['ce', 'ce+ddpm', 'sau']


# ---- files of a study

def flip(path):
    "One bit in the middle of a file is another."
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path): path.write_bytes(path.read_bytes()[:40])
def empty(path): path.write_bytes(b'')
def lose(path): path.unlink()


FILES = ['generators/ddpm/training.json', 'generators/ddpm/unet/diffusion_pytorch_model.safetensors',
         'generators/cbdm/early8/diffusion_pytorch_model.safetensors', 'generators/ddpm/model_index.json', 'samples/ddpm.safetensors',
         'filled/ddpm+none.safetensors', 'classifiers/ce-0.safetensors', 'rows/sau-0.json', 'study.json', 'results.json', 'report.html']


@pytest.fixture(scope='module')
def whole(once, bars):
    def make(path): return run_study(load_split(f'folder:{bars}'), path, 'tiny', rows=ROWS, **QUIET)
    return once('faults', make)


def figures(results):
    r = json.loads(json.dumps(results))
    for k in 'seconds', 'machine', 'versions': del r[k]
    for g in r['generators'].values(): del g['train_seconds'], g['samples_per_second']
    return r


@pytest.mark.slow
@pytest.mark.parametrize('harm', [flip, cut, empty, lose])
def test_what_is_damaged_is_moved_aside_and_made_again_and_the_end_is_the_same(whole, bars, tmp_path, harm, caplog):
    results, out = whole[0], tmp_path / 'copy'
    shutil.copytree(whole[1], out)
    assert is_whole(out)
    for name in FILES: harm(out / name)
    assert not is_whole(out)
    again = run_study(load_split(f'folder:{bars}'), out, 'tiny', rows=ROWS, **QUIET)
    assert figures(again) == figures(results) and is_whole(out)
    assert (out / 'report.html').read_text().endswith('</html>\n') or len((out / 'report.html').read_text()) > 1000
    a, b = (load_tensors(p / 'samples/ddpm.safetensors')[0]['images'] for p in (out, whole[1]))
    assert torch.equal(a, b)
    if harm is not lose: assert all('\n' not in r.message and 'made again' in r.message for r in caplog.records if r.name == 'ltnb') and caplog.records


@pytest.mark.slow
def test_what_was_made_of_a_generator_that_is_trained_anew_elsewhere_is_made_again(whole, bars, tmp_path, caplog):
    "On an accelerator, or with other threads, a training repeated does not end with the same bits."
    results, out = whole[0], tmp_path / 'copy'
    shutil.copytree(whole[1], out)
    pipe = load_generator(out / 'generators/ddpm')
    with torch.no_grad(): next(pipe.unet.parameters()).add_(.01)
    shutil.rmtree(out / 'generators/ddpm')
    _save_generator(out / 'generators/ddpm', pipe, pipe.training)
    again = run_study(load_split(f'folder:{bars}'), out, 'tiny', rows=ROWS, **QUIET)
    said = [r.message for r in caplog.records if r.name == 'ltnb']
    assert any('samples/ddpm.safetensors was made of another generator_sha256: moved to ddpm.safetensors.aside, and made again' in m for m in said)
    assert all('\n' not in m and 'made again' in m for m in said) and is_whole(out)
    assert figures(again)['generators']['cbdm'] == figures(results)['generators']['cbdm']
    assert figures(again)['generators']['ddpm'] != figures(results)['generators']['ddpm']


@pytest.mark.slow
def test_nothing_to_do_is_said_only_of_what_is_whole(whole, bars, tmp_path):
    out, said = tmp_path / 'copy', []
    shutil.copytree(whole[1], out)
    go = lambda: run_study(load_split(f'folder:{bars}'), out, 'tiny', rows=ROWS, seeds=[0], say=said.append)
    go()
    assert 'nothing to do' in said.pop()
    empty(out / 'report.html')
    again = go()['seconds']
    assert not any('nothing to do' in line for line in said) and (out / 'report.html').stat().st_size > 1000
    before = whole[0]['seconds']    # those of both lives
    assert set(again) == set(before) and all(again[k] >= before[k] > 0 for k in before) and again['all'] > before['all'] > before['generator']


def test_a_flipped_bit_of_any_byte_is_seen(tmp_path):
    save_tensors(tmp_path / 'x', dict(a=torch.arange(5.), b=torch.ones(2, dtype=torch.uint8)), seed=3)
    data = (tmp_path / 'x').read_bytes()
    silent = 0
    for i in range(len(data)):
        (tmp_path / 'x').write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i+1:])
        try: tensors, about = load_tensors(tmp_path / 'x')
        except Damaged as e: assert '\n' not in str(e)
        else:
            silent += 1     # white space of the header, say
            assert about == dict(seed=3) and torch.equal(tensors['a'], torch.arange(5.)) and tensors['b'].tolist() == [1, 1]
    assert silent < len(data) / 4


@pytest.mark.slow
@pytest.mark.parametrize('name', ['rows/sau-0.json', 'generators/ddpm/training.json', 'study.json'])
def test_a_flipped_bit_of_what_a_run_says_of_itself_is_seen(whole, tmp_path, name):
    data, was = (whole[1] / name).read_bytes(), load_sealed(whole[1] / name)
    for i in range(0, len(data), max(1, len(data) // 500)):
        (tmp_path / 'x').write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i+1:])
        try: found = load_sealed(tmp_path / 'x')
        except Damaged as e: assert '\n' not in str(e)
        else: assert {k: v for k, v in found.items() if k in was} == was      # the name of the seal itself


# ---- training

def optimiser(start, gradient):
    p = torch.nn.Parameter(torch.tensor(start))
    opt = torch.optim.SGD([p], 1.)
    def step(i):
        p.grad = torch.tensor(gradient(i))
        opt.step()
        return torch.tensor(1.)     # a loss that shows nothing
    return dict(net=torch.nn.ParameterList([p])), step


def test_weights_that_are_not_finite_are_never_kept(tmp_path):
    path = tmp_path / 'x.checkpoint'
    parts, step = optimiser(0., lambda i: 1. if i < 5 else float('nan'))
    with pytest.raises(TrainingError, match='net:0 is not finite; last good checkpoint: .*step [1-5]') as e:
        train(step, 20, parts, path, {}, save_every=0.)
    assert '\n' not in str(e.value) and -5 <= load_tensors(path)[0]['net:0'] <= -1
    parts, step = optimiser(0., lambda i: 1. if i < 19 else float('inf'))      # at the last step
    with pytest.raises(TrainingError, match='after step 19 net:0 is not finite'): train(step, 20, parts)


def test_a_damaged_checkpoint_is_moved_aside_and_the_training_begins_again(tmp_path, caplog):
    path = tmp_path / 'x.checkpoint'
    parts, step = optimiser(0., lambda i: 1.)
    train(step, 5, parts, path, {}, save_every=0.)
    flip(path)
    parts, step = optimiser(0., lambda i: 1.)
    train(step, 5, parts, path, {})
    assert parts['net'][0] == -5 and 'made again' in caplog.text and (tmp_path / 'x.checkpoint.aside').exists()


def test_what_is_set_aside_is_never_deleted_and_what_is_not_ours_is_left(tmp_path, caplog):
    for i in range(3):
        (tmp_path / 'x').write_text(str(i))
        set_aside(tmp_path / 'x', Damaged(f'{tmp_path}/x is damaged (a: b): delete it, and it is made again'))
    assert [(tmp_path / f'x.aside{n}').read_text() for n in ('', 1, 2)] == ['0', '1', '2']
    assert caplog.messages[0] == f'{tmp_path}/x is damaged (a: b): moved to x.aside, and made again'
    from ltnb.generators import train_generator
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.tex').write_text('mine')
    with pytest.raises(InputError, match='is not a generator of ltnb'): train_generator(load_split('digits'), path=tmp_path / 'mine')
    assert (tmp_path / 'mine/thesis.tex').read_text() == 'mine'


def test_a_read_that_fails_in_passing_costs_no_generator(whole, tmp_path, monkeypatch):
    from ltnb.diffusion import ClassConditionalPipeline
    from ltnb.generators import load_generator
    shutil.copytree(whole[1] / 'generators/ddpm', tmp_path / 'ddpm')
    for passing in OSError(errno.EMFILE, 'Too many open files'), MemoryError(), ImportError('no'):
        def fails(*args, **kwargs): raise passing
        monkeypatch.setattr(ClassConditionalPipeline, 'from_pretrained', fails)
        with pytest.raises(type(passing)): load_generator(tmp_path / 'ddpm')
    def wrapped(*args, **kwargs): # as diffusers does
        try: raise RuntimeError('[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can\'t allocate memory')
        except RuntimeError: raise OSError('Unable to load weights from checkpoint file')
    monkeypatch.setattr(ClassConditionalPipeline, 'from_pretrained', wrapped)
    with pytest.raises(OSError, match='Unable to load weights'): load_generator(tmp_path / 'ddpm')
    monkeypatch.undo()
    assert load_generator(tmp_path / 'ddpm')


# ---- folders

def test_a_lock_that_is_a_link_empties_nothing(tmp_path):
    mine = tmp_path / 'mine.txt'
    mine.write_text('mine')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/.lock').symlink_to(mine)
    with pytest.raises(InputError, match='.lock is a link'):
        with run_folder(tmp_path / 'out', {}): pass
    assert mine.read_text() == 'mine'


def test_fresh_leaves_notebooks_that_it_did_not_make(tmp_path):
    out = tmp_path / 'out'
    with run_folder(out, dict(a=1)): pass
    (out / 'notebooks').mkdir()
    for name in '10_collapse.ipynb', 'mine.ipynb': (out / 'notebooks' / name).write_text('{}')
    with run_folder(out, dict(a=2), fresh=True): pass
    assert [p.name for p in (out / 'notebooks').iterdir()] == ['mine.ipynb']


@pytest.mark.parametrize('name', ['samples', 'rows', 'notebooks', 'results.json', 'draws/1', 'draws/1/samples'])
def test_a_study_writes_through_no_link(tmp_path, name):
    out, elsewhere = tmp_path / 'out', tmp_path / 'elsewhere'
    elsewhere.mkdir()
    (elsewhere / '10_mine.ipynb').write_text('keep')
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(elsewhere)
    for fresh in False, True:
        with pytest.raises(InputError, match=f'{name} is a link'):
            with run_folder(out, {}, fresh): pass
    assert (elsewhere / '10_mine.ipynb').read_text() == 'keep'


def test_what_killed_writes_left_is_swept_up_and_files_are_as_readable_as_others(tmp_path):
    with run_folder(tmp_path, {}): pass
    left = [tmp_path / f'{name}.abcdefgh.ltnb-writes' for name in ('samples/.x.safetensors', '.results.json', 'draws/1/rows/.y.json')]
    mine = [tmp_path / name for name in ('.venv.disabled', 'sub/.data.20240101', 'samples/.x.safetensors.20240101', '.x.pack.20240101')]
    for p in (*left, *mine): p.mkdir(parents=True)
    with atomic(tmp_path / 'samples/z') as being_written:       # by one who lives
        being_written.touch()
        with run_folder(tmp_path, {}): pass
        assert not any(p.exists() for p in left) and all(p.exists() for p in (being_written.parent, *mine))
    (tmp_path / '.x.pack.abcdefgh.ltnb-writes').mkdir()
    with atomic(tmp_path / 'x.pack') as tmp: tmp.touch()        # beside files of others
    assert not (tmp_path / '.x.pack.abcdefgh.ltnb-writes').exists() and all(p.exists() for p in mine)
    save_tensors(tmp_path / 'x', dict(a=torch.ones(1)))
    (tmp_path / 'plain').touch()
    assert stat.S_IMODE((tmp_path / 'x').stat().st_mode) == stat.S_IMODE((tmp_path / 'plain').stat().st_mode)


def test_what_is_renamed_was_on_the_disk_before(tmp_path, monkeypatch):
    done = []
    real = os.replace
    monkeypatch.setattr(os, 'fsync', lambda f: done.append(os.readlink(f'/proc/self/fd/{f}').rsplit('/', 1)[-1]))
    monkeypatch.setattr(os, 'replace', lambda a, b: (done.append('rename'), real(a, b)))
    with atomic(tmp_path / 'x') as tmp: tmp.write_text('x')
    assert 'x' in done[:done.index('rename')] and done[-1] == tmp_path.name


@pytest.mark.slow
def test_a_finished_study_on_a_disk_that_cannot_be_written_is_shown(whole, bars, tmp_path, monkeypatch):
    out, said, real = tmp_path / 'copy', [], os.open
    shutil.copytree(whole[1], out)
    def read_only(path, flags, *args, **kwargs):
        if str(path).startswith(str(out)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT): raise OSError(errno.EROFS, 'Read-only file system', str(path))
        return real(path, flags, *args, **kwargs)
    monkeypatch.setattr(os, 'open', read_only)
    results = run_study(load_split(f'folder:{bars}'), out, 'tiny', rows=ROWS, seeds=[0], say=said.append)
    assert results == whole[0] and 'nothing to do' in said[-1]


def test_a_file_system_without_locks_is_used_and_said_and_a_lock_that_is_held_is_respected(tmp_path, monkeypatch, caplog):
    fcntl = pytest.importorskip('fcntl')
    def fails(number):
        def flock(*args): raise OSError(number, os.strerror(number))
        monkeypatch.setattr(fcntl, 'flock', flock)
    fails(errno.ENOLCK)
    with run_folder(tmp_path, {}): assert 'without locks' in caplog.text
    fails(errno.EWOULDBLOCK)
    with pytest.raises(InputError, match='another ltnb study is running'):
        with run_folder(tmp_path, {}): pass


# ---- images

def save(path, array, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **kwargs)


def two_classes(root, odd=None):
    "A folder of two classes, all images different; `odd(path)` makes the first one."
    rng = np.random.default_rng(0)
    for part in 'train', 'test':
        for c in 'ab':
            for i in range(3): save(root / part / c / f'{i}.png', rng.integers(0, 256, (8, 8), dtype=np.uint8))
    if odd: odd(root / 'train/a/0.png')
    return f'folder:{root}'


def first(root, odd): return load_split(two_classes(root, odd)).train.images[0]


def test_images_are_read_as_people_expect_them(tmp_path, caplog):
    ramp = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    assert (first(tmp_path / 'bits', lambda p: Image.fromarray(ramp).save(p))[0].numpy() == (ramp / 257).round()).all()
    assert '1 image of 16 bits scaled to 8' in caplog.text
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:4] = 7, 7, 7, 255
    x = first(tmp_path / 'alpha', lambda p: Image.fromarray(clear).save(p))
    assert x.shape == (1, 8, 8) and (x[0, :4] == 7).all() and (x[0, 4:] == 255).all() and 'put on white' in caplog.text
    def turned(p):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(p, exif=exif)
    assert first(tmp_path / 'exif', turned)[0, 0].tolist() == [56, 48, 40, 32, 24, 16, 8, 0]
    for mode in 'RGB', 'P', 'LA', '1':    # gray, whatever it is stored as
        assert first(tmp_path / mode, lambda p: Image.fromarray(ramp.astype(np.uint8)).convert(mode).save(p)).shape == (1, 8, 8)
    (tmp_path / 'bits/train/a/x.gif').write_bytes(b'GIF')
    (tmp_path / 'bits/train/a/._0.png').write_bytes(b'a companion')
    load_split(f'folder:{tmp_path / "bits"}')
    assert '1 other file left out (.gif)' in caplog.text


@pytest.mark.parametrize('odd, says', [
    (lambda p: (p.unlink(), os.mkfifo(p)), 'missing or no file'),
    (lambda p: (p.unlink(), p.symlink_to('/etc/passwd')), 'is outside'),
    (lambda p: (p.unlink(), Image.new('1', (20_000, 20_000)).save(p)), 'cannot be read as an image .*exceeds limit'),
    (lambda p: (p.unlink(), Image.fromarray(np.ones((8, 8), np.float32)).save(p.with_suffix('.tif'))), 'scale is not known'),
    (lambda p: shutil.copy(p.parent.parent.parent / 'test/a/0.png', p), '1 of 6 test images are training images, too'),
    (lambda p: [f.unlink() for f in (p.parent.parent.parent / 'test/b').iterdir()], 'no test image in class b')],
    ids=['FIFO', 'link', 'bomb', 'float', 'leak', 'no test image'])
def test_images_that_cannot_be_are_named_in_one_line(tmp_path, odd, says):
    with pytest.raises(InputError, match=says) as e: load_split(two_classes(tmp_path, odd))
    assert '\n' not in str(e.value)


def test_too_small_images_and_leaks_that_are_wanted(tmp_path, capsys):
    data = two_classes(tmp_path, lambda p: shutil.copy(tmp_path / 'test/a/0.png', p))
    assert len(load_split(data, allow_overlap=True).train) == 6
    with pytest.raises(SystemExit): main(['data', 'pack', str(tmp_path / 'x.pack'), '--data', data])
    assert '--allow-overlap' in capsys.readouterr().err
    main(['data', 'pack', str(tmp_path / 'x.pack'), '--data', data, '--allow-overlap'])
    for f in tmp_path.rglob('*.png'): Image.fromarray(np.asarray(Image.open(f))[:3, :3]).save(f)
    with pytest.raises(InputError, match='3×3 pixels are too small'): load_split(data, allow_overlap=True)


# ---- lists

@pytest.mark.parametrize('line, says', [
    ('../secret.png 0', 'is outside'), ('SECRET 0', 'is outside'), ('link.png 0', 'is outside'), ('a/0.png ²', 'expected "PATH CLASS_NUMBER"'),
    ('a/0.png 1000000000', 'classes are numbered from 0'), ('a/0.png ' + '9'*5000, 'classes are numbered'), ('a/\0.png 0', 'or no path'), ('loop.png 0', 'or no path|missing'), ('a/0.png -1', 'expected'), ('a/0.png 9' + '9'*30, 'classes are numbered'),
    (b'a/\xe9.png 0', 'is not UTF-8'), ('\ufeffa/0.png 0', None)])
def test_a_list_names_only_what_is_below_its_folder_and_classes_that_can_be(tmp_path, line, says):
    root = tmp_path / 'root'
    two_classes(root)
    save(tmp_path / 'secret.png', np.zeros((8, 8), np.uint8))
    (root / 'link.png').symlink_to(tmp_path / 'secret.png')
    (root / 'loop.png').symlink_to(root / 'loop.png')
    if isinstance(line, str): line = line.replace('SECRET', str(tmp_path / 'secret.png')).encode()
    (root / 'ImageNet_LT_train.txt').write_bytes(line.replace(b'a/', b'train/a/') + b'\ntrain/b/0.png 1\n')
    (root / 'ImageNet_LT_test.txt').write_text('test/a/0.png 0\ntest/b/0.png 1\n')
    if says is None: return load_split(f'imagenet_lt16:{root}')
    with pytest.raises(InputError, match=says) as e: load_split(f'imagenet_lt16:{root}')
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('size', [0, 3, 1025, 100_000])
def test_sizes_that_cannot_be_are_refused(tmp_path, size):
    with pytest.raises(InputError, match='cannot be asked for'): load_split(f'imagenet_lt{size}:{tmp_path}')


# ---- packs

def repacked(path, change):
    "A pack that is valid as a file, and of another shape."
    pack(load_split('digits'), path)
    tensors, about = load_tensors(path)
    change(tensors, about)
    save_tensors(path, tensors, **about)
    return f'pack:{path}'


@pytest.mark.parametrize('change', [
    lambda t, a: a.update(class_names=[]), lambda t, a: a.update(class_names='0123456789'), lambda t, a: a.update(class_names=None),
    lambda t, a: a.update(class_names=[[]]*10), lambda t, a: a.update(shapes={}), lambda t, a: a.update(shapes=[]),
    lambda t, a: a['shapes'].update(train=[10, 1, 0, 8]), lambda t, a: a['shapes'].update(train=['x']*4),
    lambda t, a: a['shapes'].update(train=[10**12, 1, 8, 8]), lambda t, a: a['shapes'].update(train=[10, 2, 8, 8]),
    lambda t, a: a['shapes'].update(train=[10, 1, -8, 8]), lambda t, a: a.update(name=3), lambda t, a: a.pop('profile'),
    lambda t, a: t.update({'train.labels': t['train.labels'].float()}), lambda t, a: t.update({'train.labels': -t['train.labels']}),
    lambda t, a: a.update(subset='../../../outside'), lambda t, a: a.update(subset=None),
    lambda t, a: t.update({'train.0000': torch.zeros(9, dtype=torch.uint8)}), lambda t, a: t.pop('train.labels')])
def test_a_pack_of_another_shape_is_refused_in_one_line(tmp_path, change):
    where = r'x.pack is (damaged: its images|no pack as `ltnb data pack` writes it \((class_names|shapes|name|profile|subset))'
    with pytest.raises(InputError, match=where) as e: load_split(repacked(tmp_path / 'x.pack', change))
    assert '\n' not in str(e.value)


# ---- formats, whatever is in them

MANY = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2**70, 2**70), st.floats(), st.text(max_size=8))
JSON = st.recursive(SCALARS, lambda x: st.one_of(st.lists(x, max_size=4), st.dictionaries(st.text(max_size=8), x, max_size=4)), max_leaves=8)


def in_one_line(read, *args):
    "What was read, or None where it was refused in one line; any other error is one of the test."
    try: return read(*args)
    except InputError as e: assert '\n' not in clean(str(e)) and len(str(e)) < 1000


def changed(draw, x):
    "JSON in which one thing, at any depth, is another, is missing or is there as well."
    if isinstance(x, dict) and x and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(x)))
        return {**x, key: changed(draw, x[key])}
    if isinstance(x, list) and x and draw(st.booleans()):
        i = draw(st.integers(0, len(x) - 1))
        return [*x[:i], changed(draw, x[i]), *x[i+1:]]
    if isinstance(x, dict) and x and draw(st.booleans()): return {k: v for k, v in x.items() if k != draw(st.sampled_from(sorted(x)))}
    return draw(JSON)


@pytest.fixture(scope='module')
def small_pack(tmp_path_factory):
    path = tmp_path_factory.mktemp('packs') / 'x.pack'
    pack(load_split(two_classes(path.parent)), path)
    return path, *load_tensors(path)


@MANY
@given(data=st.data())
def test_any_header_of_a_pack_is_read_or_refused_in_one_line(small_pack, data):
    path, tensors, about = small_pack
    other = path.with_name('other.pack')
    header = changed(data.draw, about)
    save_tensors(other, tensors, **(header if isinstance(header, dict) else dict(kind=header)))
    split = in_one_line(load_split, f'pack:{other}')
    if split: assert split.train.sha256 == load_split(f'pack:{path}').train.sha256 and all(isinstance(n, str) for n in (split.name, *split.class_names))


@MANY
@given(at=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255), rest=st.floats(0, 1))
def test_any_byte_of_a_pack_may_be_another_and_any_part_of_it_missing(small_pack, at, bits, rest):
    path, *_ = small_pack
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= bits
    other = path.with_name('other.pack')
    for content in bytes(data), path.read_bytes()[:int(rest * len(data))]:
        other.write_bytes(content)
        split = in_one_line(load_split, f'pack:{other}')
        if split: assert split.sha256 == load_split(f'pack:{path}').sha256      # white space of the header, say


@MANY
@given(data=st.data())
def test_any_marks_are_read_or_refused_in_one_line(tmp_path, data):
    drawn = dict(seed=0, per_class=2, sampler='ddim', steps=2, guidance=.5, policy=None, generator_sha256='x')
    whole = dict(schema=1, marks=[dict(generator='cbdm', drawn=drawn, keep=[0, 5], drop=[2], reasons={})])
    file = tmp_path / 'm.json'
    assert load_marks(save_as(file, whole)) == whole['marks']
    marks = in_one_line(load_marks, save_as(file, changed(data.draw, whole)))
    for e in marks or []:
        in_one_line(marks_for, [e], e['drawn'], 6)
        assert set(e['keep']).isdisjoint(e['drop']) and min([0, *e['keep'], *e['drop']]) == 0


def save_as(path, x):
    path.write_text(json.dumps(x), encoding='utf-8')
    return path


@MANY
@given(text=st.one_of(st.binary(max_size=60), st.lists(st.tuples(st.sampled_from(['train/a/0.png', 'test/a/0.png', '../x.png', '/', '.', 'a b.png', '']),
                                                                  st.one_of(st.integers(-2, 3), st.text(max_size=3))), max_size=4)))
def test_any_list_is_read_or_refused_in_one_line(list_folder, text):
    if not isinstance(text, bytes): text = '\n'.join(f'{path} {label}' for path, label in text).encode(errors='surrogatepass')
    (list_folder / 'ImageNet_LT_train.txt').write_bytes(text)
    split = in_one_line(load_split, f'imagenet_lt16:{list_folder}')
    if split: assert len(split.train) == len(text.decode('utf-8-sig').splitlines()) and split.num_classes == 2


@pytest.fixture(scope='module')
def list_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('lists')
    two_classes(root)
    (root / 'ImageNet_LT_test.txt').write_text('test/b/0.png 0\ntest/b/1.png 1\n')
    return root


# ---- text from files

HOSTILE = '<script>alert(1)</script>\x1b[2J\x1b]0;x\x07'


@pytest.mark.slow
def test_text_from_files_reaches_page_and_terminal_as_text(whole, tmp_path, capsys, monkeypatch):
    assert clean(HOSTILE) == '<script>alert(1)</script>�[2J�]0;x�'
    def hurt(x):
        if isinstance(x, dict): return {hurt(k) if k == 'a' else k: hurt(v) for k, v in x.items()}
        if isinstance(x, list): return [hurt(v) for v in x]
        return HOSTILE + x if isinstance(x, str) and not x.startswith('data:') else x
    results = json.loads(json.dumps(whole[0]))
    for key in 'name', 'profile', 'class_names': results['dataset'][key] = hurt(results['dataset'][key])
    results['filters'] = {HOSTILE + k: dict(hurt(f), histogram=f['histogram']) for k, f in results['filters'].items()}
    results['generators'] = {HOSTILE + k: g for k, g in results['generators'].items()}
    results['versions'] = hurt(results['versions'])
    for c in results['classifiers'].values(): c['training_set'] = HOSTILE
    results['pictures'] = {k: {HOSTILE + c: {HOSTILE + s: x for s, x in of.items()} for c, of in v.items()} for k, v in results['pictures'].items()}
    page = report(results)
    assert page.count('<script>') == 1 and page.count('&lt;script&gt;alert(1)') > 20 and all(results['pictures'].values())
    # a pack's name does not choose where a study is written
    import ltnb.study
    monkeypatch.chdir(tmp_path)
    source = repacked(tmp_path / 'x.pack', lambda t, a: a.update(name='../../' + HOSTILE))
    seen = []
    monkeypatch.setattr(ltnb.study, 'run_study', lambda splits, out, *args: seen.append(out) or results)
    main(['study', '--data', source, '--preset', 'tiny'])
    assert '..' not in seen[0].parts and seen[0].parent.name == 'runs' and '<' not in seen[0].name
    out = capsys.readouterr().out
    assert '\x1b' not in out and '\x07' not in out


def test_class_names_with_dollars_are_drawn(tmp_path):
    import matplotlib.pyplot as plt
    from matplotlib.text import Text
    from ltnb.collapse import show_tail
    from ltnb.classifiers import build, classifier_settings
    from ltnb.show import plot_counts
    from ltnb.widgets import TailCompare
    two_classes(tmp_path)
    for part in 'train', 'test': (tmp_path / part / 'a').rename(tmp_path / part / '$a^^b$')
    split = load_split(f'folder:{tmp_path}')
    net = build(split, classifier_settings(split, 'tiny')).eval()
    compare = TailCompare(split, dict(a=net, b=net))
    for fig in show_tail(split, dict(x=split.test)), plot_counts(split).figure, compare.figure():
        fig.canvas.draw()
        assert any('$a^^b$' in text.get_text() and not text.get_parse_math() for text in fig.findobj(Text))
    plt.close('all')


# ---- processes

def command(tmp_path, bars, *more): return [sys.executable, '-m', 'ltnb', 'study', '--data', f'folder:{bars}', '--preset', 'tiny', '--seeds', '0',
                                            '--rows', 'ce,ce+ddpm', '--out', str(tmp_path / 'out'), *more]


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_study_in_one_line_and_the_same_command_goes_on(bars, tmp_path, number):
    import psutil
    p = subprocess.Popen(command(tmp_path, bars, '--workers', '2'), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                         preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))     # under nohup a child ignores SIGHUP
    while p.poll() is None and not (tmp_path / 'out/generators/ddpm').exists(): time.sleep(.02)
    family = psutil.Process(p.pid).children(recursive=True)
    p.send_signal(number)
    said = p.stderr.read()
    assert p.wait() == 128 + number and said.endswith('ltnb: interrupted; the same command goes on where it was\n'), said
    assert 'Traceback' not in said and not psutil.wait_procs(family, timeout=60)[1]
    assert not list((tmp_path / 'out').glob('*/.*')) or all(q.is_dir() for q in (tmp_path / 'out').glob('*/.*'))
    assert main(command(tmp_path, bars)[3:]) is None and is_whole(tmp_path / 'out')


SIGNALLED = '''
import os, signal, sys, time, weakref
from ltnb import cli
when, number = sys.argv[1], getattr(signal, sys.argv[2])
def send(*_): os.kill(os.getpid(), number), time.sleep(.2)
class Thing: pass
class Importing:
    def find_spec(name, *_):
        if name == 'torch': send()
def study(a):
    thing = Thing()
    if when == 'in a callback': ref = weakref.ref(thing, send)
    del thing
    if when == 'twice':
        try: send()
        finally: send()
    time.sleep(300)
if when == 'while torch is imported': sys.meta_path.insert(0, Importing)
cli._study = study
sys.argv[1:] = ['study']
cli.main()
'''


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT'])
@pytest.mark.parametrize('when', ['in a callback', 'twice', 'while torch is imported'])
def test_a_signal_is_never_lost_and_never_a_traceback(when, name):
    number = getattr(signal, name)
    p = subprocess.run([sys.executable, '-c', SIGNALLED, when, name], capture_output=True, text=True, timeout=200,
                       preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))     # a shell's background job ignores SIGINT
    at_once = when == 'while torch is imported' or (when, name) == ('twice', 'SIGINT')
    assert p.returncode == 128 + number
    assert p.stderr == ('' if at_once else 'ltnb: interrupted; the same command goes on where it was\n')


def test_a_process_ends_in_a_line_whose_team_never_met(monkeypatch, capsys):
    "Whoever asked the team for its number then would wait for it, or die of its absence."
    monkeypatch.setenv('WORLD_SIZE', '2'), monkeypatch.setenv('RANK', '1')
    def lost(a): raise RuntimeError('Connection closed by peer [127.0.0.1]')
    monkeypatch.setattr('ltnb.cli._study', lost)
    with pytest.raises(SystemExit) as e: main(['study'])
    assert e.value.code == 1
    assert capsys.readouterr().err == ('ltnb: process 1: another process of the team died (killed, or out of memory?); '
                                       'what was finished is kept, the same command goes on\n')


@pytest.mark.slow
def test_a_study_goes_on_when_nobody_reads_what_it_says_and_on_a_console_of_plain_ascii(bars, tmp_path):
    p = subprocess.run(f'{shlex.join(command(tmp_path, bars))} | head -1', shell=True, env=os.environ | dict(LC_ALL='C', PYTHONIOENCODING='ascii'),
                       capture_output=True, text=True)
    assert 'Split' in p.stdout and 'Traceback' not in p.stderr and is_whole(tmp_path / 'out')


@pytest.mark.slow
def test_no_pickle_is_read(whole, bars, tmp_path, monkeypatch):
    "One is planted in the place of each kind of file: were it read, it would leave a trace."
    out, trace = tmp_path / 'copy', tmp_path / 'trace'
    shutil.copytree(whole[1], out)
    class Evil:
        def __reduce__(self): return os.mkdir, (str(trace),)
    def plant(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(Evil()))
        return path
    for name in (*FILES, 'lives.json', 'manifest.json', 'generators/ddpm.checkpoint.safetensors', 'generators/ddpm/unet/diffusion_pytorch_model.bin'):
        plant(out / name)
    results = run_study(load_split(f'folder:{bars}'), out, 'tiny', rows=ROWS, **QUIET)
    assert figures(results) == figures(whole[0]) and not trace.exists()
    assert list(out.glob('generators/ddpm.checkpoint.safetensors.aside'))     # it was looked at
    from torchvision.datasets import CIFAR10
    for f, _ in [*CIFAR10.train_list, *CIFAR10.test_list, [CIFAR10.meta['filename'], '']]: plant(tmp_path / CIFAR10.base_folder / f)
    two_classes(tmp_path / 'folder', plant)
    for part in 'train', 'test': plant(tmp_path / f'ImageNet_LT_{part}.txt')
    plant(tmp_path / 'x.pack'), plant(tmp_path / 'm.json')
    for data in f'pack:{tmp_path}/x.pack', f'cifar10:{tmp_path}', f'folder:{tmp_path}/folder', f'imagenet_lt16:{tmp_path}':
        with pytest.raises(InputError): load_split(data)
    with pytest.raises(InputError): load_marks(tmp_path / 'm.json')
    assert not trace.exists()
    pickle.loads((tmp_path / 'm.json').read_bytes())    # what is planted would have left one
    assert trace.exists()


@pytest.mark.slow
def test_a_long_name_of_the_folder_for_temporary_files_is_no_matter_for_workers(bars, tmp_path):
    long = tmp_path / ('x' * 120)
    long.mkdir()
    p = subprocess.run(command(tmp_path, bars, '--workers', '2'), env=os.environ | dict(TMPDIR=str(long)), capture_output=True, text=True)
    assert p.returncode == 0, p.stderr


def own_mounts(): return bool(shutil.which('unshare')) and subprocess.run(['unshare', '-rm', 'true'], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize('fits', [False, True])
def test_workers_do_with_little_shared_memory(fits):
    "A megabyte, really mounted, is too little for what is sent: it is sent by value. Were it thought to fit, the command would fail."
    if not own_mounts(): pytest.skip('no mounts of our own here')
    send = ('import operator, torch, ltnb.compute as c\n' + 'c._fits = lambda x: True\n'*fits
            + 'a, b = c.in_parallel(operator.neg, [(torch.ones(1_000_000),), (torch.zeros(1_000_000),)], workers=2)\nprint(a.sum().item(), b.sum().item())')
    p = subprocess.run(['unshare', '-rm', 'sh', '-c', f'mount -t tmpfs -o size=1m none /dev/shm && exec {shlex.join([sys.executable, "-c", send])}'],
                       capture_output=True, text=True, timeout=300)
    assert (p.returncode != 0 and '-1000000' not in p.stdout) if fits else (p.returncode == 0 and p.stdout == '-1000000.0 0.0\n'), p.stderr


def test_a_run_that_goes_on_with_other_threads_says_so_and_counts_the_seconds_of_both_lives(tmp_path, caplog):
    from ltnb.compute import way_of_computing
    from ltnb.folder import Lives
    first = Lives(tmp_path, way_of_computing(1))
    first.add('trained', 5.)
    assert way_of_computing(3) == dict(way_of_computing(1), threads=1)      # each worker has one
    Lives(tmp_path, way_of_computing(1)).add('trained', 7.)
    assert not caplog.messages
    torch.set_num_threads(2)
    try: third = Lives(tmp_path, way_of_computing(1))
    finally: torch.set_num_threads(1)
    assert third.seconds['trained'] == 12 and [w['threads'] for w in third.ways] == [1, 2]
    said, = caplog.messages
    was = 'threads 1, processes 1' + ', precision bfloat16'*('precision' in third.ways[0])
    assert f'{was} and goes on with' in said and 'which round differently' in said and '\n' not in said


@pytest.mark.parametrize('text', ['', '[]', '{"seconds": 3}', '{"seconds": {"all": "long"}}', '{"ways": [3]}'])
def test_a_damaged_note_of_former_lives_is_moved_aside(tmp_path, text, caplog):
    from ltnb.folder import Lives
    (tmp_path / 'lives.json').write_text(text)
    Lives(tmp_path, dict(threads=1)).add('trained', 5.)
    assert 'moved to lives.json.aside' in caplog.text and (tmp_path / 'lives.json.aside').read_text() == text
    assert Lives(tmp_path, dict(threads=1)).seconds['trained'] == 5


def test_a_job_that_is_left_alone_computes_with_the_threads_of_a_worker():
    from ltnb.compute import in_parallel
    torch.set_num_threads(2)
    try: assert in_parallel(torch.get_num_threads, [()], workers=3) == [1] and in_parallel(torch.get_num_threads, [()], workers=1) == [2] == [torch.get_num_threads()]
    finally: torch.set_num_threads(1)


def test_the_seconds_of_a_training_are_those_of_all_its_lives(tmp_path):
    from ltnb.core import TrainingStopped
    parts, step = optimiser(0., lambda i: 1.)
    def slow(i):
        time.sleep(.02)
        return step(i)
    def stop(i, losses):
        if i == 9: raise TrainingStopped
    with pytest.raises(TrainingStopped): train(slow, 20, parts, tmp_path / 'x.checkpoint', {}, watch=stop)
    parts, step = optimiser(0., lambda i: 1.)
    assert train(slow, 20, parts, tmp_path / 'x.checkpoint', {})[1] >= .4


def test_a_study_that_the_disk_has_no_room_for_is_refused_before_it_begins(bars, tmp_path, monkeypatch):
    import ltnb.study
    monkeypatch.setattr(ltnb.study, 'forecast', lambda run, wanted, workers: dict(seconds=dict(generators=1.), memory=None, disk=1e15))
    with pytest.raises(InputError, match='GB left, and some 1e.06 GB are needed') as e:
        run_study(load_split(f'folder:{bars}'), tmp_path / 'out', 'small', rows=['ce'], **QUIET)
    assert '\n' not in str(e.value) and not list((tmp_path / 'out').glob('classifiers'))


# ---- numbers

@pytest.mark.slow
@pytest.mark.parametrize('alike', [False, True])
def test_one_image_of_every_class_or_all_alike_ends_in_figures_or_in_one_line(tmp_path, alike):
    two_classes(tmp_path)
    for i, f in enumerate(sorted((tmp_path / 'train').rglob('*.png'))):
        if alike: Image.fromarray(np.full((8, 8), 90, np.uint8)).save(f)
        elif f.name != '0.png': f.unlink()
    split = load_split(f'folder:{tmp_path}')
    results = run_study(split, tmp_path / 'out', 'tiny', rows=['ce', 'la', 'ce+cbdm+filter', 'sau', 'sau+adjusted'], **QUIET)
    assert all(0 <= c['accuracy']['mean'] <= 100 for c in results['classifiers'].values())
    with pytest.raises(InputError, match='L_AID needs distances within a class'):
        run_study(split, tmp_path / 'out', 'tiny', rows=['ce', 'ce+cbdm+aid'], **QUIET)


def test_draws_of_a_split_that_has_none_are_refused(tmp_path):
    from ltnb.experiments import run_experiment
    pack(load_split('digits'), tmp_path / 'x.pack', full=True)
    with pytest.raises(InputError, match='its draws are all alike'): run_experiment('ladder', f'pack:{tmp_path / "x.pack"}', 'tiny', out=tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('drawn', [['seed', 'per_class', 'sampler', 'steps', 'guidance', 'generator_sha256'], 3, None])
def test_marks_of_another_shape_are_refused(tmp_path, drawn):
    (tmp_path / 'm.json').write_text(json.dumps(dict(schema=1, marks=[dict(generator='cbdm', drawn=drawn, keep=[], drop=[1])])))
    with pytest.raises(InputError, match='no file of marks'): load_marks(tmp_path / 'm.json')


@pytest.mark.slow
def test_a_digit_of_a_row_that_was_changed_is_not_believed(whole, bars, tmp_path):
    out = tmp_path / 'copy'
    shutil.copytree(whole[1], out)
    path = out / 'rows/ce-0.json'
    kept = json.loads(path.read_text())
    kept['row']['published'][0][0][0] += 1
    for text in json.dumps(kept), '[]', '{}', '"x"':
        path.write_text(text)
        assert figures(run_study(load_split(f'folder:{bars}'), out, 'tiny', rows=ROWS, **QUIET)) == figures(whole[0])


@pytest.mark.slow
def test_nohup_is_respected(bars, tmp_path):
    p = subprocess.Popen(['nohup', *command(tmp_path, bars)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    while p.poll() is None and not (tmp_path / 'out/generators/ddpm').exists(): time.sleep(.02)
    p.send_signal(signal.SIGHUP)
    assert p.wait() == 0 and is_whole(tmp_path / 'out')
