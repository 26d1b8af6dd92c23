"Seeds, files that are written whole or not at all, and progress."
import math

import pytest
import torch

from ltnb.core import (InputError, atomic, fingerprint, load_json, load_tensors, progress, rng, save_json,
                       save_tensors, seeded)


def test_draws_depend_on_the_seed_and_the_names_alone():
    a = torch.rand(3, generator=rng(1, 'batch', 2))
    assert torch.equal(a, torch.rand(3, generator=rng(1, 'batch', 2)))
    for other in (2, 'batch', 2), (1, 'batch', 3), (1, 'other', 2), (1,):
        assert not torch.equal(a, torch.rand(3, generator=rng(*other)))


def test_pytorchs_own_generator_is_as_it_was_after_a_seeded_block():
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    with seeded(3, 'x'): inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(3, 'x'): assert torch.equal(torch.rand(2), inside)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    save_json(tmp_path / 'below/a.json', dict(x=1))
    with pytest.raises(RuntimeError), atomic(tmp_path / 'below/a.json') as tmp:
        tmp.write_text('half')
        raise RuntimeError
    assert load_json(tmp_path / 'below/a.json') == dict(x=1)
    assert [p.name for p in (tmp_path / 'below').iterdir()] == ['a.json']


def test_a_folder_is_made_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), atomic(tmp_path / 'new') as tmp:
        tmp.mkdir()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with atomic(tmp_path / 'new') as tmp: tmp.mkdir()
    assert (tmp_path / 'new').is_dir()


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_what_json_has_not_is_refused(tmp_path, value):
    with pytest.raises(ValueError): save_json(tmp_path / 'a.json', dict(x=value))
    assert not list(tmp_path.iterdir())


def test_damaged_and_missing_files_are_named_in_one_line(tmp_path):
    (tmp_path / 'a.json').write_text('{"x": 1')
    (tmp_path / 'a.safetensors').write_bytes(b'half a file')
    for load, name, says in ((load_json, 'a.json', 'is not valid JSON'), (load_tensors, 'a.safetensors', 'is damaged'),
                             (load_tensors, 'none.safetensors', 'is missing')):
        with pytest.raises(InputError, match=f'{name} {says}') as e: load(tmp_path / name)
        assert '\n' not in str(e.value)


def test_tensors_come_back_with_what_was_said_about_them(tmp_path):
    x = dict(a=torch.randn(3, 4).T, b=torch.arange(3), c=torch.tensor(True))
    save_tensors(tmp_path / 'x.safetensors', x, seed=1, of=dict(some='thing'))
    tensors, about = load_tensors(tmp_path / 'x.safetensors')
    assert all(torch.equal(tensors[k], x[k]) for k in x) and about == dict(seed=1, of=dict(some='thing'))
    assert load_tensors(tmp_path / 'x.safetensors', tensors=False) == ({}, about)


def test_a_fingerprint_tells_names_types_shapes_and_values():
    x = dict(a=torch.arange(6), b=torch.zeros(2))
    same = fingerprint(dict(b=torch.zeros(2), a=torch.arange(6)))
    assert fingerprint(x) == same and len(same) == 64
    others = [dict(x, a=torch.arange(6).view(2, 3)), dict(x, a=torch.arange(6).int()), dict(x, c=x['a']),
              dict(x, a=torch.arange(1, 7)), dict(a=x['b'], b=x['a'])]
    assert len({fingerprint(o) for o in others} | {same}) == 6
    assert fingerprint(dict(x=torch.eye(3)[:, :2])) == fingerprint(dict(x=torch.eye(3)[:, :2].contiguous()))


def test_progress_goes_through_everything_and_counts():
    assert list(progress([3, 1], 'doing')) == [3, 1]
    with progress(desc='doing', total=2) as bar: bar.update()
