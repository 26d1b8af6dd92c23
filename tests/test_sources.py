"Every source of images, and what is said of bad input."
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_folder
from PIL import Image

from ltnb.core import InputError, load_tensors, save_tensors
from ltnb.data import long_tail_counts
from ltnb.sources import load_split, pack


def test_folder(folder):
    split = load_split(f'folder:{folder}')
    assert (split.name, split.counts, split.profile, split.image_shape) == ('bars', [24, 12, 6], 'natural', (3, 8, 8))
    assert split.full is None
    thinned = load_split(f'folder:{folder}', 3)
    assert thinned.counts == [6, 3, 2] and thinned.full.counts(3) == [6, 6, 6]
    with pytest.raises(InputError, match='at most 6'): load_split(f'folder:{folder}', 50)
    with pytest.raises(InputError, match='natural profile'): load_split(f'folder:{folder}', 3, 'natural')


def test_gray_and_colour_images_mix(folder):
    Image.new('L', (8, 8), 99).save(folder / 'train/class0/gray.png')
    assert load_split(f'folder:{folder}').train.images.shape[1] == 3
    gray = make_folder(folder / 'gray', (3, 2))
    for p in gray.rglob('*.png'): Image.open(p).convert('L').save(p)
    assert load_split(f'folder:{gray}').image_shape == (1, 8, 8)


@pytest.mark.parametrize('break_it, says', [
    (lambda r: [p.unlink() for p in (r / 'train/class2').glob('*')], 'no training image in class class2'),
    (lambda r: Image.new('RGB', (9, 8)).save(r / 'train/class1/big.png'), 'big.png is 9×8'),
    (lambda r: (r / 'test/class1/000.png').write_bytes((r / 'test/class1/000.png').read_bytes()[:60]),
     '000.png cannot be read'),
    (lambda r: (r / 'train/class1/000.png').write_bytes(b''), '000.png cannot be read'),
    (lambda r: (r / 'test/class2').rename(r / 'test/other'), 'same class folders'),
    (lambda r: [p.unlink() for p in (r / 'test').rglob('*.png')], 'no images in'),
    (lambda r: (r / 'train').rename(r / 'training'), '0 class folders'),
], ids=['empty class', 'sizes', 'truncated', 'empty file', 'other classes', 'no test', 'no train'])
def test_a_bad_folder_is_told_in_one_line(folder, break_it, says):
    break_it(folder)
    with pytest.raises(InputError, match=says) as e: load_split(f'folder:{folder}')
    assert '\n' not in str(e.value)


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack('>BBBB', 0, 0, 8, array.ndim) + struct.pack(f'>{array.ndim}I', *array.shape)
                     + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path):
    raw, random = tmp_path / 'MNIST/raw', np.random.RandomState(0)
    for part, n in ('train', 200), ('t10k', 50):
        write_idx(raw / f'{part}-images-idx3-ubyte', random.randint(0, 256, (n, 28, 28)))
        write_idx(raw / f'{part}-labels-idx1-ubyte', np.arange(n) % 10)
    return tmp_path


def test_mnist_files(mnist):
    split = load_split(f'mnist:{mnist}', 10)
    assert split.counts == long_tail_counts(20, 10, 10) and split.image_shape == (1, 28, 28)
    file = mnist / 'MNIST/raw/train-images-idx3-ubyte'
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match='MNIST'): load_split(f'mnist:{mnist}', 10)
    file.unlink()
    with pytest.raises(InputError, match='train-images-idx3-ubyte is missing'): load_split(f'mnist:{mnist}', 10)


def test_cifar_files_are_named_when_missing_or_damaged(tmp_path):
    with pytest.raises(InputError, match='data_batch_1 is missing'): load_split(f'cifar10:{tmp_path}')
    (tmp_path / 'cifar-10-batches-py').mkdir()
    (tmp_path / 'cifar-10-batches-py/data_batch_1').write_bytes(b'half a file')
    with pytest.raises(InputError, match='data_batch_1 is damaged'): load_split(f'cifar10:{tmp_path}')
    with pytest.raises(InputError, match='cifar-100-python/train is missing'): load_split(f'cifar100:{tmp_path}')


@pytest.mark.parametrize('data', ['digit', 'digits:/tmp', 'mnist', 'folder:', 'imagenet:/x', ''])
def test_unknown_data_sets(data):
    with pytest.raises(InputError, match='it is one of'): load_split(data)


def test_lists_such_as_imagenet_lts(tmp_path):
    for part, counts in dict(train=(5, 2), test=(3, 3)).items():
        lines = []
        for c, n in enumerate(counts):
            for i in range(n):
                f = Path(f'{part}/n0{c}/{i}.JPEG')
                (tmp_path / f).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((30 - 10 * c, 40, 3), 100 * c + 20 + (part == 'test'), np.uint8)).save(tmp_path / f, 'JPEG')
                lines.append(f'{f} {c}')
        (tmp_path / f'ImageNet_LT_{part}.txt').write_text('\n'.join(lines) + '\n')
    split = load_split(f'imagenet_lt16:{tmp_path}')
    assert split.counts == [5, 2] and split.image_shape == (3, 16, 16) and split.class_names == ['n00', 'n01']
    assert split.profile == 'natural'
    assert (split.train.images[0].int() - 20).abs().max() < 4 and (split.train.images[-1].int() - 120).abs().max() < 4
    assert split.full is None
    (tmp_path / 'ImageNet_LT_test.txt').write_text('test/n00/0.JPEG 0\ntest/n00/9.JPEG 0\n')
    with pytest.raises(InputError, match=r'9\.JPEG \(line 2 of ImageNet_LT_test\.txt\) is missing'):
        load_split(f'imagenet_lt16:{tmp_path}')
    (tmp_path / 'ImageNet_LT_test.txt').write_text('test/n00/0.JPEG zero\n')
    with pytest.raises(InputError, match='expected "PATH CLASS_NUMBER"'): load_split(f'imagenet_lt16:{tmp_path}')
    (tmp_path / 'ImageNet_LT_train.txt').unlink()
    with pytest.raises(InputError, match='ImageNet_LT_train.txt is missing'): load_split(f'imagenet_lt16:{tmp_path}')
    with pytest.raises(InputError, match='unknown data set'): load_split(f'imagenet_lt:{tmp_path}')


# ---- packed splits

def photographs_folder(root): return load_split(f'folder:{make_folder(root, (70, 30, 5), size=32)}')


def test_a_packed_split_is_the_same_split(tmp_path):
    split = photographs_folder(tmp_path / 'bars')
    size = pack(split, tmp_path / 'bars.pack')
    again = load_split(f'pack:{tmp_path / "bars.pack"}')
    assert again.sha256 == split.sha256
    assert (again.name, again.class_names, again.counts) == (split.name, split.class_names, split.counts)
    assert torch.equal(again.test.images, split.test.images) and again.full is None
    assert size == (tmp_path / 'bars.pack').stat().st_size < split.train.images.nbytes + split.test.images.nbytes


def test_a_pack_can_hold_the_balanced_set(tmp_path):
    split = load_split('digits', 5)
    pack(split, tmp_path / 'digits.pack', full=True)
    again = load_split(f'pack:{tmp_path / "digits.pack"}')
    assert (again.imbalance_factor, again.profile) == (5, 'exp') and torch.equal(again.full.images, split.full.images)
    tensors, about = load_tensors(tmp_path / 'digits.pack')
    tensors['full.labels'][0] += 1
    save_tensors(tmp_path / 'digits.pack', tensors, **about)
    with pytest.raises(InputError, match='is damaged'): load_split(f'pack:{tmp_path / "digits.pack"}')


def test_more_than_one_mosaic(tmp_path, monkeypatch):
    monkeypatch.setattr('ltnb.sources.SIDE', 64)
    split = photographs_folder(tmp_path / 'bars')
    pack(split, tmp_path / 'bars.pack')
    assert load_split(f'pack:{tmp_path / "bars.pack"}').sha256 == split.sha256


@pytest.mark.parametrize('harm', ['missing', 'cut', 'flipped', 'another file', 'resplit'])
def test_a_pack_that_cannot_be_used_is_one_line(tmp_path, harm):
    f = tmp_path / 'digits.pack'
    pack(load_split('digits'), f)
    data = bytearray(f.read_bytes())
    if harm == 'missing': f.unlink()
    if harm == 'cut': f.write_bytes(data[:-100])
    if harm == 'another file': save_tensors(f, dict(x=torch.zeros(2)))
    if harm == 'flipped':       # in the middle of the largest picture
        data[len(data) // 2] ^= 255
        f.write_bytes(data)
    with pytest.raises(InputError, match='digits.pack') as e:
        load_split(f'pack:{f}', imbalance_factor=3 if harm == 'resplit' else None)
    assert '\n' not in str(e.value)


def test_the_names_of_the_literature_are_the_standard_sets(tmp_path):
    with pytest.raises(InputError, match='put CIFAR10 there'): load_split(f'cifar10-lt:{tmp_path}')
