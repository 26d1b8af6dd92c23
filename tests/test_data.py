"Long tails: the field's counts and subset, splits, and the order in which a training set is read."
import numpy as np
import pytest
import torch

from ltnb.core import InputError
from ltnb.data import ImageSet, Split, batch_indices, long_tail_counts, tail_classes, thin_out, to_float, to_uint8
from ltnb.sources import load_split


def test_exponential_counts_are_the_fields():
    for n_max, C, R in (5000, 10, 100), (5000, 10, 10), (500, 100, 100), (500, 100, 50), (114, 10, 20), (7, 2, 7):
        assert long_tail_counts(n_max, C, R) == [int(n_max * (1 / R) ** (c / (C - 1))) for c in range(C)]
    assert long_tail_counts(50, 1, 10) == [50]


def test_other_profiles():
    assert long_tail_counts(100, 4, 10, 'step') == [100, 100, 10, 10]
    assert long_tail_counts([9, 3, 5], 3, 1, 'natural') == [9, 3, 5]
    pareto = long_tail_counts(1280, 1000, 256, 'pareto')
    assert pareto[0] == 1280 and pareto[-1] == 5 and pareto == sorted(pareto, reverse=True)
    assert abs(sum(pareto) / 115_846 - 1) < .02           # ImageNet-LT's size


@pytest.mark.parametrize('R', [0, .5, -3, float('nan')])
def test_an_imbalance_factor_under_one_is_refused(R):
    with pytest.raises(InputError, match='at least 1'): long_tail_counts(100, 10, R)


def test_the_subset_is_that_of_the_fields_code():
    labels = np.random.RandomState(3).randint(0, 10, 5000)
    counts = long_tail_counts(300, 10, 100)
    # the way the field's scripts do it, with the global generator
    np.random.seed(0)
    expected = []
    for c in range(10):
        idx = np.where(labels == c)[0]
        np.random.shuffle(idx)
        expected.append(idx[:counts[c]])
    assert thin_out(torch.from_numpy(labels), counts, 'ldam').tolist() == np.concatenate(expected).tolist()
    assert thin_out(torch.from_numpy(labels), counts, 1).tolist() != np.concatenate(expected).tolist()
    with pytest.raises(InputError, match='ldam'): thin_out(torch.from_numpy(labels), counts, 'bbn')


def test_digits():
    split = load_split('digits')
    assert split.counts == [114, 81, 58, 41, 30, 21, 15, 11, 7, 5]
    assert split.groups == dict(many=[0], medium=[1, 2, 3, 4, 5], few=[6, 7, 8, 9])
    images = [{x.numpy().tobytes() for x in s.images} for s in (split.train, split.full, split.test)]
    assert images[0] <= images[1] and not images[1] & images[2]
    assert load_split('digits', 20).sha256 == split.sha256 != load_split('digits', 10).sha256


def test_batches_read_each_image_once_an_epoch():
    read = torch.cat([batch_indices(7, 5, i, seed=1) for i in range(7)]).view(5, 7)
    assert all(sorted(epoch.tolist()) == list(range(7)) for epoch in read)
    assert len({tuple(epoch.tolist()) for epoch in read}) == 5
    assert sorted(batch_indices(3, 9, 0, seed=1).tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_what_was_left_out_is_in_neither_training_nor_test_set():
    split = load_split('digits')
    seen = {x.numpy().tobytes() for s in (split.train, split.test) for x in s.images}
    left = {x.numpy().tobytes() for x in split.left_out.images}
    assert left and not left & seen and left <= {x.numpy().tobytes() for x in split.full.images}


def test_of_a_larger_pool_the_spare_images_are_left_out_too_and_in_nothing_else():
    splits = [load_split('fashion', subset=d) for d in ('ldam', 1)]
    for split in splits:
        full, spare, train, test, left = ([x.numpy().tobytes() for x in s.images]
                                          for s in (split.full, split.spare, split.train, split.test, split.left_out))
        assert split.counts[0] == 300 and split.full.counts(10) == [300]*10 and split.spare.counts(10) == [200]*10
        assert not {*spare} & {*full, *train, *test} and {*train} <= {*full}
        assert {*left} == {*full, *spare} - {*train, *test} and len(left) > 3000
        by_image = dict(zip(full + spare, [*split.full.labels.tolist(), *split.spare.labels.tolist()]))
        assert [by_image[x] for x in left] == split.left_out.labels.tolist()
    a, b = splits
    assert (a.subset, b.subset) == ('ldam', 1) and a.counts == b.counts and a.test.sha256 == b.test.sha256
    assert len({*map(bytes, a.train.images.numpy())} & {*map(bytes, b.train.images.numpy())}) < len(a.train)
    assert load_split('digits').spare is None


def test_a_class_without_images_is_refused_and_the_rarest_come_last():
    x = torch.zeros(7, 3, 4, 4, dtype=torch.uint8)
    some = ImageSet(x, torch.tensor([0, 0, 0, 2, 1, 1, 1]))
    assert tail_classes(Split('x', some, some, list('abc')), 1) == [2]
    assert Split('x', some, some, list('abc')).is_colour and not load_split('digits').is_colour
    with pytest.raises(InputError, match='no training image in class d'): Split('x', some, some, list('abcd'))


def test_pixels_as_networks_take_them_and_back():
    x = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(x)), x) and to_float(x).aminmax() == (-1, 1)
    assert to_uint8(torch.tensor([-9., 9.])).tolist() == [0, 255]
