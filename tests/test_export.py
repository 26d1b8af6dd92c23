"A filled training set for other people's scripts: the same images, however they are written, and nothing half."
import csv

import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import PILToTensor

from ltnb.cli import main
from ltnb.core import InputError, load_json, load_sealed, save_json
from ltnb.data import ImageSet, Split
from ltnb.export import TrainingImages, export_set
from ltnb.sources import load_split
from ltnb.study import kept_run

ROW = 'ce+cbdm+filter+weight'


def command(*args, capsys):
    try: main([str(a) for a in args])
    except SystemExit as e: return e.code, capsys.readouterr().err
    return 0, capsys.readouterr().out


@pytest.fixture(scope='session')
def filled(study):
    "The training set of a row of the study, and its split."
    run = kept_run(study[1])
    return run.training_set(ROW), run.split


def test_a_study_s_folder_gives_its_run(study, bars):
    run, (results, out) = kept_run(study[1]), study
    assert run.split.sha256 == results['dataset']['split_sha256'] and run.settings.preset == 'tiny'
    assert load_json(out / 'study.json')['source'] == dict(data=f'folder:{bars}', allow_overlap=False, test_share=None,
                                                            imbalance_factor=None, profile='natural', subset='ldam')


def test_a_folder_is_what_image_folder_reads(study, filled, tmp_path, capsys):
    (data, split), dest = filled, tmp_path / 'set'
    dest.mkdir()        # an empty folder will do
    status, said = command('export', study[1], ROW, '--to', 'folder', dest, capsys=capsys)
    assert status == 0 and f'{int(data.synthetic.sum())} of them generated' in said
    theirs = ImageFolder(dest / 'train', transform=PILToTensor())
    assert theirs.classes == split.class_names and data.synthetic.any()
    order = sorted(range(len(data)), key=lambda i: (data.labels[i], not data.synthetic[i] and 'real' or 'synthetic', i))
    for (image, label), i in zip(theirs, order, strict=True):
        assert label == data.labels[i] and torch.equal(image, data.images[i])
    rows = list(csv.DictReader(open(dest / 'images.csv')))
    assert [(r['synthetic'] == '1', float(r['weight'])) for r in rows[:len(data)]] == [(s, .3 if s else 1.) for s in data.synthetic.tolist()]
    assert all((dest / r['file']).is_file() for r in rows) and len(rows) == len(data) + len(split.test)
    again = load_split(f'folder:{dest}')        # and so does ltnb
    assert again.counts == data.counts(3) and torch.equal(again.test.images, split.test.images)


def test_parquet_is_what_datasets_reads(study, filled, tmp_path, capsys, monkeypatch):
    datasets = pytest.importorskip('datasets', reason="needs datasets: pip install 'ltnb[hf]'")
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path / 'cache')
    datasets.disable_progress_bars()
    (data, split), dest = filled, tmp_path / 'set'
    assert command('export', study[1], ROW, '--to', 'parquet', dest, capsys=capsys)[0] == 0
    rows = datasets.load_dataset(str(dest))
    assert rows['train'].features['label'].names == split.class_names and len(rows['test']) == len(split.test)
    assert rows['train']['label'] == data.labels.tolist() and rows['train']['synthetic'] == data.synthetic.tolist()
    assert rows['train']['weight'] == pytest.approx([.3 if s else 1. for s in data.synthetic.tolist()])
    for i in 0, len(data) - 1: assert torch.equal(PILToTensor()(rows['train'][i]['image']), data.images[i])
    assert load_split(f'hf:{dest}').train.counts(3) == data.counts(3)


def test_a_dataset_of_pytorch_in_two_lines(filled):
    data, split = filled
    train = TrainingImages(data, split.class_names, .3, PILToTensor())
    images, labels = next(iter(torch.utils.data.DataLoader(train, batch_size=len(data))))
    assert torch.equal(images, data.images) and torch.equal(labels, data.labels)
    assert (train.classes, train.targets) == (split.class_names, data.labels.tolist()) and set(train.weights) == {1., .3}
    assert TrainingImages(data, split.class_names, target_transform=str)[0][1] == str(int(data.labels[0]))
    assert isinstance(TrainingImages(data, split.class_names)[0][0], Image.Image)


def test_gray_images_and_names_that_are_no_folders(tmp_path):
    images = ImageSet(torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 1, 5, 5), torch.tensor([0, 0, 1, 1]))
    split = Split('odd', images[[0, 2]], images[[1, 3]], ['shirt/top', '.hidden'])
    export_set(split, split.train, tmp_path / 'set')
    theirs = ImageFolder(tmp_path / 'set/train')
    assert theirs.classes == ['-hidden', 'shirt-top'] and theirs[1][0].getpixel((0, 0)) == (0, 0, 0)
    assert not list(tmp_path.glob('.*'))
    with pytest.raises(InputError, match='two classes would have the same folder'):
        export_set(Split('odd', images[[0, 2]], images[[1, 3]], ['a/b', 'A-b']), images, tmp_path / 'other')
    assert not (tmp_path / 'other').exists()


@pytest.mark.parametrize('case, says', [
    ('full', 'is there already, and not an empty folder'), ('file', 'is there already'), ('no run', 'is no folder of a study'),
    ('row', "unknown name 'gan': it is one of ce"), ('not made', 'has no training set of ce.ddpm.adjusted yet'),
    ('no judge', 'has no training set of .* yet: ltnb study with --rows'), ('other seed', 'yet: ltnb study with --rows .* --generator-seeds 3 makes it'),
    ('moved', 'is missing|0 class folders|no images'), ('changed', 'has other images now'), ('older', 'does not say where its images')])
def test_what_cannot_be_exported_is_one_line(study, tmp_path, capsys, case, says):
    import re
    import shutil
    dest, run, row = tmp_path / 'set', tmp_path / 'run', ROW
    run.mkdir()
    kept = load_sealed(study[1] / 'study.json')
    if case in ('full', 'file'): (dest.mkdir(), (dest / 'mine').write_text('x')) if case == 'full' else dest.write_text('x')
    if case == 'row': row = 'gan'
    if case == 'not made': row = 'ce+ddpm+adjusted'
    if case == 'moved': kept['source']['data'] = f'folder:{tmp_path}/nowhere'
    if case == 'changed':
        shutil.copytree(kept['source']['data'].removeprefix('folder:'), tmp_path / 'data')
        (tmp_path / 'data/train/class0/000.png').unlink()
        kept['source']['data'] = f'folder:{tmp_path}/data'
    if case == 'older': del kept['source']
    if case == 'no judge':      # as where classifiers were deleted to save room: it would be trained anew
        shutil.copytree(study[1], run, dirs_exist_ok=True)
        for path in (run / 'classifiers').glob('ce-*'): path.unlink()
    if case != 'no run': save_json(run / 'study.json', kept)
    before = sorted(tmp_path.rglob('*'))
    status, err = command('export', run, row, dest, '--generator-seed', 3 * (case == 'other seed'), capsys=capsys)
    assert status == 2 and re.search(says, err) and err.count('\n') == 1, err
    assert sorted(tmp_path.rglob('*')) == before
