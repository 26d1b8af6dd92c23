"Every source of images, and what is said of bad input."
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_folder
from PIL import Image

from ltnb.core import InputError, load_tensors, save_tensors
from ltnb.data import ImageSet, Split, long_tail_counts, pack, tail_classes
from ltnb.sources import load_split, source_of


def test_folder(folder):
    split = load_split(f'folder:{folder}')
    assert (split.name, split.counts, split.profile, split.image_shape) == ('bars', [24, 12, 6], 'natural', (3, 8, 8))
    assert split.full is None
    thinned = load_split(f'folder:{folder}', 3)
    assert thinned.counts == [6, 3, 2] and thinned.full.counts(3) == [6, 6, 6]
    with pytest.raises(InputError, match='less than 6'): load_split(f'folder:{folder}', 50)
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
    assert split.counts == [5, 2] and split.image_shape == (1, 16, 16) and split.class_names == ['n00', 'n01']
    assert split.profile == 'natural'
    assert (split.train.images[0].int() - 20).abs().max() < 4 and (split.train.images[-1].int() - 120).abs().max() < 4
    assert split.full is None
    Image.new('RGB', (40, 40), 'red').save(tmp_path / 'test/n00/0.JPEG')
    with pytest.raises(InputError, match='training images are .1, 16, 16., test images .3, 16, 16.'): load_split(f'imagenet_lt16:{tmp_path}')
    (tmp_path / 'ImageNet_LT_test.txt').write_text('test/n00/0.JPEG 0\ntest/n00/9.JPEG 0\n')
    with pytest.raises(InputError, match=r'9\.JPEG \(line 2 of ImageNet_LT_test\.txt\) is missing'):
        load_split(f'imagenet_lt16:{tmp_path}')
    (tmp_path / 'ImageNet_LT_test.txt').write_text('test/n00/0.JPEG zero\n')
    with pytest.raises(InputError, match='expected "PATH CLASS_NUMBER"'): load_split(f'imagenet_lt16:{tmp_path}')
    (tmp_path / 'ImageNet_LT_train.txt').unlink()
    with pytest.raises(InputError, match='ImageNet_LT_train.txt is missing'): load_split(f'imagenet_lt16:{tmp_path}')
    with pytest.raises(InputError, match='unknown data set'): load_split(f'imagenet_lt:{tmp_path}')


def test_two_classes_of_one_name_are_refused(tmp_path):
    "As of lists whose files lie in one folder: the classes would be taken for one."
    for part in 'train', 'test':
        (tmp_path / part).mkdir()
        for c in range(2): Image.fromarray(np.full((16, 16, 3), 99*c, np.uint8)).save(tmp_path / f'{part}/{c}.png')
        (tmp_path / f'ImageNet_LT_{part}.txt').write_text(f'{part}/0.png 0\n{part}/1.png 1\n')
    with pytest.raises(InputError, match='1 names stand for several classes, such as t') as e: load_split(f'imagenet_lt16:{tmp_path}', allow_overlap=True)
    assert '\n' not in str(e.value)


def test_gray_images_of_a_list_stay_gray_and_the_source_is_found_from_elsewhere(tmp_path, monkeypatch):
    for part in 'train', 'test':
        (tmp_path / part).mkdir()
        for c in range(2): Image.fromarray(np.full((16, 16), 90*c + 9*(part == 'test'), np.uint8)).save(tmp_path / f'{part}/{c}.png')
        (tmp_path / f'ImageNet_LT_{part}.txt').write_text('a/0.png 0\nb/1.png 1\n' if part == 'train' else 'test/0.png 0\ntest/1.png 1\n')
    for c, name in enumerate('ab'):
        (tmp_path / name).mkdir()
        (tmp_path / f'train/{c}.png').rename(tmp_path / f'{name}/{c}.png')
    monkeypatch.chdir(tmp_path.parent)
    split = load_split(f'imagenet_lt16:{tmp_path.name}')
    assert split.image_shape == (1, 16, 16) and not split.is_colour
    monkeypatch.chdir(tmp_path / 'a')
    assert load_split(**source_of(split)).sha256 == split.sha256


def test_opaque_pixels_are_not_put_on_white_and_odd_sizes_are_said(tmp_path, caplog):
    for part in 'train', 'test':
        for c in range(2):
            (tmp_path / part / f'class{c}').mkdir(parents=True)
            for i in range(2): Image.fromarray(np.full((17, 16, 4), [9*c + i, part == 'test', 0, 255], np.uint8)).save(tmp_path / f'{part}/class{c}/{i}.png')
    split = load_split(f'folder:{tmp_path}')
    said = [r.getMessage() for r in caplog.records]
    assert split.image_shape == (3, 17, 16) and len(said) == 1 and 'images of 16×17 pixels cannot be halved twice' in said[0]


def test_a_class_number_beyond_the_images_of_a_list(tmp_path):
    (tmp_path / 'ImageNet_LT_test.txt').write_text('a.png 0\n')
    for label in '2', '9' * 30:
        (tmp_path / 'ImageNet_LT_train.txt').write_text(f'a.png 0\na.png {label}\n')
        with pytest.raises(InputError, match=r'train\.txt:2: class [29]+, but only 2 images'): load_split(f'imagenet_lt16:{tmp_path}')


@pytest.fixture
def tiny_imagenet(tmp_path):
    "A folder laid out as tiny-imagenet-200: three classes, 12 images of 64×64 of each, two of each to test on, one of them gray."
    wnids, root = ['n03', 'n01', 'n02'], tmp_path / 'tiny-imagenet-200'
    (root / 'val/images').mkdir(parents=True)
    (root / 'wnids.txt').write_text('\n'.join(wnids))
    (root / 'words.txt').write_text('n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane\n')
    def image(file, value, mode='RGB'): Image.fromarray(np.full((64, 64, 3), value, np.uint8)).convert(mode).save(file, 'JPEG')
    for w in wnids:
        (root / 'train' / w / 'images').mkdir(parents=True)
        (root / 'train' / w / f'{w}_boxes.txt').write_text('')
        for i in range(12): image(root / f'train/{w}/images/{w}_{i}.JPEG', (80 * int(w[1:]), i, 0))
    noted = [('val_1.JPEG', 'n02'), ('val_0.JPEG', 'n01'), ('val_2.JPEG', 'n03'), ('val_3.JPEG', 'n02')]
    for f, w in noted: image(root / 'val/images' / f, *((80, 'L') if f == 'val_0.JPEG' else ((80 * int(w[1:]), 0, 0),)))
    (root / 'val/val_annotations.txt').write_text(''.join(f'{f}\t{w}\t0\t0\t62\t62\n' for f, w in noted))
    return root


def test_tiny_imagenet_as_it_is_distributed(tiny_imagenet):
    split = load_split(f'tiny_imagenet:{tiny_imagenet}', 4)
    assert (split.name, split.counts, split.profile, split.image_shape) == ('tiny_imagenet', [12, 6, 3], 'exp', (3, 64, 64))
    assert split.class_names == ['goldfish', 'crane (n02)', 'crane (n03)'] and split.full.counts(3) == [12] * 3
    assert split.test.labels.tolist() == [1, 0, 2, 1]
    for s in split.train, split.test:       # each image is of its class
        assert ((s.images[:, 0].float().mean((1, 2)) - 80 * (s.labels + 1)).abs() < 4).all()
    assert load_split(f'tiny_imagenet-lt:{tiny_imagenet}', 4).sha256 == split.sha256
    assert [n for n in long_tail_counts(500, 200, 100)][::199] == [500, 5]


@pytest.mark.parametrize('spoil, said', [
    (lambda r: (r / 'wnids.txt').unlink(), r'wnids\.txt is missing: ROOT is the folder that tiny-imagenet-200\.zip unpacks to'),
    (lambda r: (r / 'words.txt').write_text('n01\tgoldfish\n'), r'words\.txt has no words for n02'),
    (lambda r: (r / 'words.txt').write_text('n01 goldfish\n'), r'expected 2 columns'),
    (lambda r: (r / 'wnids.txt').write_text('n01\n'), r'names 1 classes'),
    (lambda r: (r / 'val/val_annotations.txt').write_text('val_0.JPEG\tn99\t0\n'), r'n99 is no class of wnids\.txt'),
    (lambda r: [f.unlink() for f in (r / 'train/n02/images').iterdir()], r'train/n02/images has no \*\.JPEG'),
    (lambda r: (r / 'val/images/val_2.JPEG').unlink(), r'val_2\.JPEG is missing'),
    (lambda r: (r / 'val/val_annotations.txt').write_text('../../../x.JPEG\tn01\t0\n'), r'is outside'),
], ids=['another folder', 'no words', 'no tabs', 'one class', 'another class', 'no images', 'a lost image', 'a path that leads out'])
def test_a_tiny_imagenet_that_is_not_as_it_should_be(tiny_imagenet, spoil, said):
    spoil(tiny_imagenet)
    with pytest.raises(InputError, match=said) as e: load_split(f'tiny_imagenet:{tiny_imagenet}')
    assert '\n' not in str(e.value)


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


def test_a_pack_of_one_class_of_tiny_images_or_with_draws_is_refused(tmp_path):
    def packed(images, labels, names):
        data = ImageSet(torch.zeros(len(labels), *images, dtype=torch.uint8), torch.tensor(labels))
        pack(Split('x', data, replace(data, labels=data.labels.clone()), names), tmp_path / 'x.pack')
        return f'pack:{tmp_path / "x.pack"}'
    with pytest.raises(InputError, match='one class only'): load_split(packed((1, 8, 8), [0, 0], ['a']))
    with pytest.raises(InputError, match='3×8 pixels are too small'): load_split(packed((1, 8, 3), [0, 1], ['a', 'b']))
    with pytest.raises(InputError, match='its draws are all alike'): load_split(packed((1, 8, 8), [0, 1], ['a', 'b']), subset=7)
    with pytest.raises(InputError, match='is a folder: name a file'): pack(load_split('digits'), tmp_path)
    with pytest.raises(InputError, match=r"'caf.udce9' cannot be written as UTF-8"): packed((1, 8, 8), [0, 1], ['a', 'caf\udce9'])


def test_a_pack_without_a_test_image_of_a_class_is_refused(tmp_path):
    split = load_split('digits')
    pack(replace(split, test=split.test[split.test.labels != 3]), tmp_path / 'digits.pack')
    with pytest.raises(InputError, match='no test image in class 3'): load_split(f'pack:{tmp_path / "digits.pack"}')


@pytest.mark.parametrize('labels, said', [([0, [1, 2], 1], 'row 1 has the class .1, 2.'), (['a', None], 'row 1 has the class None'), ([0, 'a'], "row 1 has the class 'a': all are whole numbers or all are names")])
def test_labels_of_the_hub_that_are_no_classes(labels, said):
    from ltnb.sources import _class_names
    assert _class_names(['b', 'a', 'b'], 'hf:x') == ['a', 'b']
    with pytest.raises(InputError, match=said): _class_names(labels, 'hf:x')


def test_more_than_one_mosaic(tmp_path, monkeypatch):
    monkeypatch.setattr('ltnb.data.SIDE', 64)
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


# ---- a test set held out

def pixels(data): return {image.numpy().tobytes() for image in data.images}


def without_test(root, inner='train'):
    make_folder(root, (20, 10, 2), test=1)
    import shutil
    shutil.rmtree(root / 'test')
    if not inner:
        for p in (root / 'train').iterdir(): p.rename(root / p.name)
        (root / 'train').rmdir()
    return root


@pytest.mark.parametrize('inner', ['train', ''])
def test_a_share_of_each_class_is_held_out_whatever_files_are_called(tmp_path, inner):
    root = without_test(tmp_path / 'bars', inner)
    split = load_split(f'folder:{root}', test_share=.2)
    assert (split.counts, split.test.counts(3)) == ([16, 8, 1], [4, 2, 1]) and not pixels(split.train) & pixels(split.test)
    for i, p in enumerate(sorted(root.rglob('*.png'), reverse=True)): p.rename(p.with_name(f'again{i:03}.png'))
    again = load_split(f'folder:{root}', test_share=.2)
    assert pixels(again.test) == pixels(split.test) and again.source['test_share'] == .2


def test_copies_of_an_image_stay_together(tmp_path):
    root = without_test(tmp_path / 'bars')
    for p in sorted((root / 'train').rglob('*.png')): p.with_name('copy-' + p.name).write_bytes(p.read_bytes())
    split = load_split(f'folder:{root}', test_share=.3)
    assert split.test.counts(3) == [12, 6, 2] and not pixels(split.train) & pixels(split.test)


@pytest.mark.parametrize('data, share, says', [
    ('folder:{root}', None, r'test is missing: --test-share 0.2 holds out'),
    ('folder:{root}', 1., 'a share of the images, such as 0.2'),
    ('folder:{whole}', .2, 'has a test set: leave --test-share out'),
    ('digits', .2, 'digits has a test set of its own'),
], ids=['no share', 'all', 'has one', 'digits'])
def test_a_share_that_cannot_be_held_out_is_one_line(tmp_path, folder, data, share, says):
    with pytest.raises(InputError, match=says) as e:
        load_split(data.format(root=without_test(tmp_path / 'own'), whole=folder), test_share=share)
    assert '\n' not in str(e.value)


def test_a_class_of_one_image_cannot_be_shared(tmp_path):
    root = without_test(tmp_path / 'bars')
    (root / 'train/class2/001.png').unlink()
    with pytest.raises(InputError, match='class2 has 1 different images'): load_split(f'folder:{root}', test_share=.2)


# ---- data sets of the Hub

@pytest.fixture
def hub(monkeypatch, tmp_path):
    "Hugging Face's datasets, with a cache of its own and no network."
    datasets = pytest.importorskip('datasets', reason="needs datasets: pip install 'ltnb[hf]'")
    for name in ('HF_DATASETS_CACHE', 'HF_CACHE_HOME'): monkeypatch.setattr(datasets.config, name, tmp_path / 'cache')
    monkeypatch.setattr(datasets.config, 'HF_HUB_OFFLINE', True)
    datasets.disable_progress_bars()
    return datasets


def parquet(hub, split, root, label=None):
    "A data set of Parquet files, as most on the Hub are."
    root.mkdir()
    for name in 'train', 'test':
        part = getattr(split, name)
        rows = dict(img=[Image.fromarray(x.permute(1, 2, 0).numpy()) for x in part.images],
                    fine=[split.class_names[c] for c in part.labels] if label is str else part.labels.tolist())
        of = hub.Value('string') if label is str else hub.ClassLabel(names=split.class_names)
        key = 'label' if label is str else 'fine'
        hub.Dataset.from_dict({'img': rows['img'], key: rows['fine']},
                              features=hub.Features({'img': hub.Image(), key: of})).to_parquet(root / f'{name}.parquet')
    return root


@pytest.mark.parametrize('label', [None, str], ids=['class numbers', 'class names'])
def test_parquet_by_datasets_is_the_same_split_as_the_folder(hub, folder, tmp_path, label):
    split = load_split(f'folder:{folder}')
    mine = load_split(f'hf:{parquet(hub, split, tmp_path / "rows", label)}')
    assert mine.sha256 == split.sha256 and mine.class_names == split.class_names and mine.name == 'rows'
    assert (mine.profile, mine.full) == ('natural', None)


def test_a_folder_of_images_by_datasets(hub, folder, tmp_path):
    split, mine = load_split(f'folder:{folder}'), load_split(f'hf:{folder}')
    assert mine.counts == split.counts and pixels(mine.train) == pixels(split.train) and mine.class_names == split.class_names
    assert load_split(f'hf:{folder}', 3).counts == [6, 3, 2]


def test_a_test_set_of_a_data_set_is_held_out_as_that_of_a_folder(hub, tmp_path):
    root = without_test(tmp_path / 'bars')
    assert pixels(load_split(f'hf:{root}', test_share=.2).test) == pixels(load_split(f'folder:{root}', test_share=.2).test)
    with pytest.raises(InputError, match='neither test nor validation part: --test-share 0.2'): load_split(f'hf:{root}')


@pytest.mark.parametrize('harm, says', [
    ('nowhere', 'hf:.*nowhere cannot be loaded by datasets'),
    ('no image', 'a column of images and one of classes are needed, not text, label'),
    ('size', 'image 41 of hf:.* is 9×8'),
    ('damaged', 'image 0 of hf:.* cannot be read as an image'),
    ('outside', 'is outside'),
    ('class', 'row 1 has the class 7, which is none of the 2 of the training set'),
    ('class from 1', 'row 0 has the class 0, which is none of the 2 of the training set')])
def test_a_data_set_that_cannot_be_used_is_one_line(hub, folder, tmp_path, harm, says):
    root, png = tmp_path / 'rows', (folder / 'test/class0/000.png').read_bytes()
    image = lambda x: dict(bytes=x, path=None)
    rows = dict(image=[image(png), image(png)], label=[0, 1])
    if harm == 'size':
        rows = dict(image=[dict(bytes=p.read_bytes(), path=None) for p in sorted((folder / 'train').rglob('*.png'))], label=[0, 1] * 21)
        Image.new('RGB', (9, 8)).save(tmp_path / 'x.png')
        rows['image'][41] = image((tmp_path / 'x.png').read_bytes())
    if harm == 'damaged': rows['image'][0] = image(png[:50])
    if harm == 'outside': rows['image'][0] = dict(bytes=None, path=str(folder / 'test/class0/000.png'))
    if harm == 'class': rows['label'] = [0, 7]
    features = hub.Features(image=hub.Image(), label=hub.Value('int64'))
    if harm == 'class': features['label'] = hub.Value('int64')
    if harm == 'no image': rows, features = dict(text=['a', 'b'], label=[0, 1]), hub.Features(text=hub.Value('string'), label=hub.Value('int64'))
    if harm != 'nowhere':
        root.mkdir()
        import pyarrow.parquet as pq
        for part in 'train', 'test':
            table = hub.Dataset.from_dict(rows, features=features).with_format('arrow')[:]
            pq.write_table(table, root / f'{part}.parquet')
        if harm == 'class from 1': pq.write_table(hub.Dataset.from_dict(dict(rows, label=[1, 2]), features=features).with_format('arrow')[:], root / 'train.parquet')
        if harm == 'class':     # the test set has a class that the training set has not
            pq.write_table(hub.Dataset.from_dict(dict(rows, label=[0, 1]), features=features).with_format('arrow')[:], root / 'train.parquet')
    else: root = 'nobody/nowhere'
    with pytest.raises(InputError, match=says) as e: load_split(f'hf:{root}')
    assert '\n' not in str(e.value)


def test_without_datasets_the_command_that_installs_it_is_named(monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'datasets', None)
    with pytest.raises(InputError, match=r"needs the package datasets: pip install 'ltnb\[hf\]'"): load_split('hf:cifar10')


def test_no_class_is_no_class_of_the_tail():
    split = load_split('digits')
    assert [len(tail_classes(split, n)) for n in (0, 3, 10, 99)] == [0, 3, 10, 10]


def test_an_empty_class_is_named_where_a_tail_is_asked_for(folder):
    shutil.copytree(folder / 'test/class0', folder / 'test/class3')
    (folder / 'train/class3').mkdir()
    with pytest.raises(InputError, match='no training image in class class3: every class needs at least one'): load_split(f'folder:{folder}', 10)
