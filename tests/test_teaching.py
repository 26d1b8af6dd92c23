"What filters keep of perfect samples that phi_0 gets right, of those it gets wrong, and of mislabelled ones."
import json
from dataclasses import replace

import pytest
import torch

from ltnb.classifiers import classifier_settings, train_classifier
from ltnb.core import InputError
from ltnb.data import ImageSet, Split
from ltnb.between import FILTERS
from ltnb.filtering import Filter
from ltnb.sources import load_split
from ltnb.teaching import teaching, teaching_table


class Phi(torch.nn.Module):
    "The first pixel of an image is its feature; it is of class 0 if that is dark, of class 1 if not; 2 is not known."
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.))
    def features(self, x): return self.scale * x.flatten(1)[:, :1]
    def head(self, f): return torch.cat([-f, f, f - 9], 1)
    def forward(self, x): return self.head(self.features(x))


def of(labels, pixels):
    pixels = torch.tensor(pixels, dtype=torch.uint8)[:, None, None, None]
    return ImageSet(pixels.expand(-1, 1, 2, 2).clone(), torch.tensor(labels))


def made_up():
    "Class 0 is common; of the perfect samples of class 1 phi_0 gets 2 of 3 right, of class 2 none of 2."
    train = of([0]*20 + [1]*3 + [2]*2, [*range(20), 240, 250, 255, 120, 130])
    images = of([0]*6 + [1]*3 + [2]*2, [*range(0, 60, 10), 200, 220, 100, 125, 135])
    return Split('made up', train, train, ['a', 'b', 'c']), images


class Only(Filter):
    "Keeps what a rule about the first pixel and the label says."
    def __init__(self, rule): self.rule = rule
    def keep(self, features, labels): return self.rule((features[:, 0] + 1) * 127.5, labels)


def test_the_shares_are_of_what_they_are_called():
    split, images = made_up()
    seen = lambda pixel, label: (pixel > 127.5).long() == label     # what phi_0 takes for its class
    true = lambda pixel, label: torch.where(label == 2, (pixel > 119) & (pixel < 140), (pixel > 99) & (label == 1)
                                            & ~((pixel > 119) & (pixel < 140)))
    rules = dict(right=lambda x, y: seen(x, y) & true(x, y), wrong=lambda x, y: ~seen(x, y) & true(x, y), all=true,
                 mislabelled=lambda x, y: ~true(x, y))
    expected = dict(right=(1., 0., .4, 0.), wrong=(0., 1., .6, 0.), all=(1., 1., 1., 0.), mislabelled=(0., 0., 0., 1.))
    rows = teaching(split, Phi(), images, {k: lambda phi, r=r: Only(r) for k, r in rules.items()})
    assert [r['filter'] for r in rows] == [*rules]
    for row in rows:
        assert row['images'] == dict(right=2, wrong=3, all=5, mislabelled=5)
        assert tuple(row[k] for k in rules) == pytest.approx(expected[row['filter']])


def test_perfect_and_mislabelled_samples_are_one_batch_and_the_seed_is_that_of_the_labels():
    split, images = made_up()
    batches = []
    class Watch(Filter):
        def score(self, features, labels):
            batches.append(labels)
            return super().score(features, labels)
    for seed in 0, 0, 1: teaching(split, Phi(), images, dict(watch=lambda phi: Watch()), seed)
    assert len(batches) == 3 and all(len(b) == 10 and set(b.tolist()) == {1, 2} for b in batches)
    assert torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])


def test_of_no_image_there_is_no_share_and_without_a_few_shot_class_no_table():
    split, images = made_up()
    row, = teaching(split, Phi(), images[images.labels == 2], dict(none=FILTERS['none']))
    assert row['right'] is None and row['images']['right'] == 0 and row['wrong'] == 1.
    assert '–' in repr(teaching_table(split, Phi(), images[images.labels == 2], dict(none=FILTERS['none'])))
    many = replace(split, train=of([0]*20 + [1]*20 + [2]*20, [*range(60)]))
    with pytest.raises(InputError, match='no class with fewer than 20'): teaching(many, Phi(), images)


def test_on_digits_confidence_keeps_only_what_phi0_knows_and_without_a_filter_all_is_kept():
    split = load_split('digits')
    phi = train_classifier(split, split.train, settings=classifier_settings(split, 'tiny'))
    rows = {r['filter']: r for r in teaching(split, phi, split.left_out)}
    assert rows.keys() == FILTERS.keys() and json.loads(json.dumps(rows)) == rows
    n = rows['none']['images']
    assert n['right'] + n['wrong'] == n['all'] == n['mislabelled'] == sum(split.left_out.counts(10)[6:])
    for r in rows.values():
        shares = [r[k] for k in ('right', 'wrong', 'all', 'mislabelled')]
        known = [(n[k], r[k]) for k in ('right', 'wrong') if n[k]]
        assert r['images'] == n and r['all'] == pytest.approx(sum(m * s for m, s in known) / n['all']), shares
    assert [rows['none'][k] for k in ('wrong', 'all', 'mislabelled')] == [1., 1., 1.]
    assert rows['confidence']['wrong'] == 0.        # half the probability is the most that there is
    head = teaching_table(split, phi, split.left_out, dict(none=FILTERS['none']))[0]
    assert f"phi_0 wrong ({n['wrong']})" in head and head[f"all ({n['all']})"] == 1.
