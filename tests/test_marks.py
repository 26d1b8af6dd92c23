"Samples kept or dropped by hand: to a file and back, and only for the samples that they were made on."
import pytest
import torch

from ltnb.core import InputError, load_json, save_json
from ltnb.marks import DRAWN, is_of, load_marks, marks_for, save_marks


ABOUT = dict(seed=0, per_class=2, sampler='s', steps=2, guidance=0., generator_sha256='x', count=6)
MARKS = torch.tensor([1, 0, -1, 0, 0, 1])


def test_marks_go_to_a_file_and_back(tmp_path):
    # of ddpm there are none
    save_marks(tmp_path / 'm.json', dict(cbdm=(ABOUT, MARKS), ddpm=(None, torch.zeros(6))))
    entry, = load_marks(tmp_path / 'm.json')
    assert entry == dict(generator='cbdm', drawn={k: ABOUT.get(k) for k in DRAWN}, keep=[0, 5], drop=[2], reasons={})
    assert marks_for([entry], ABOUT, 6).tolist() == MARKS.tolist()
    with pytest.raises(InputError, match='the marks of cbdm go beyond its 5 samples'): marks_for([entry], ABOUT, 5)


def test_marks_are_of_the_samples_they_were_made_on_and_of_no_others(tmp_path):
    save_marks(tmp_path / 'm.json', dict(cbdm=(ABOUT, MARKS)))
    entry, = load_marks(tmp_path / 'm.json')
    assert is_of(entry, ABOUT) and is_of(entry, ABOUT | dict(count=9)) and not is_of(entry, None)
    for k in DRAWN:
        assert not is_of(entry, ABOUT | {k: 'other'}) and not marks_for([entry], ABOUT | {k: 'other'}, 6).any()
    with pytest.raises(InputError, match='how cbdm was drawn is not known'):
        save_marks(tmp_path / 'n.json', dict(cbdm=(None, MARKS)))
    assert not (tmp_path / 'n.json').exists()


@pytest.mark.parametrize('harm', [dict(keep=[-1]), dict(keep=[True]), dict(keep=['0']), dict(drop=[0]), dict(drawn={}),
                                  dict(keep=None)], ids=str)
def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, harm):
    save_marks(tmp_path / 'm.json', dict(cbdm=(ABOUT, MARKS)))
    marks = load_json(tmp_path / 'm.json')
    marks['marks'][0] |= harm
    for file, obj in ('m.json', marks), ('list.json', [1]), ('other.json', dict(x=1)):
        save_json(tmp_path / file, obj)
        with pytest.raises(InputError, match=f'{file} is no file of marks') as e: load_marks(tmp_path / file)
        assert '\n' not in str(e.value)
    with pytest.raises(InputError, match='none.json is missing'): load_marks(tmp_path / 'none.json')
