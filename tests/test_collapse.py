"What shows where collapse begins: nearest images, rows of experiments over seeds, and paths of denoising."
import matplotlib.pyplot as plt
import pytest
import torch

from ltnb.collapse import (compare_table, denoising_path, over_rows, plot_by_class, plot_rows, rows_where,
                           show_nearest)
from ltnb.data import ImageSet
from ltnb.diffusion import ClassConditionalPipeline, generator_settings, noise_schedule, unet, with_sampler
from ltnb.metrics import class_figures
from ltnb.sources import load_split


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close('all')


def row(method, x, recall): return dict(method=method, x=x, figures=dict(few=dict(recall=recall)))


ROWS = [row('ddpm', 2, 1.), row('ddpm', 1, .25), row('ddpm', 1, .75), row('cbdm', 1, .5)]


def test_rows_are_chosen_and_averaged_by_ascending_x():
    assert rows_where(ROWS, method='ddpm', x=1) == ROWS[1:3]
    one, two = over_rows(rows_where(ROWS, method='ddpm'), 'x', 'recall')
    assert one == (1, .5, pytest.approx(.125 ** .5)) and two == (2, 1., 0)
    assert over_rows(ROWS, lambda r: r['method'], 'recall')[0][:2] == ('cbdm', .5)


def test_five_generators_are_five_lines():
    split = load_split('digits')
    figures = {f'generator {i}': dict(per_class=[dict(recall=i / 10, precision=.5)] * 10) for i in range(5)}
    for ax in plot_by_class(split, figures).axes: assert [line.get_label() for line in ax.lines] == list(figures)
    rows = {name: [dict(x=x, figures=dict(few=dict(recall=.1 * i))) for x in (1, 2)] for i, name in enumerate(figures)}
    assert len(plot_rows(rows, 'x', 'x', ('recall',)).axes[0].containers) == 5


def test_a_comparison_has_a_row_for_each_generator_and_group():
    split = load_split('digits')
    figures = dict(real=class_figures(split, split.test.images, split.test.labels))
    assert [r['classes'] for r in compare_table(figures)] == ['many', 'medium', 'few', 'overall']
    few, = compare_table(figures, 'few', ('recall',))
    assert few == {'generator': 'real', 'classes': 'few', 'recall': figures['real']['few']['recall']}


def test_a_copy_is_nearest_to_what_it_copies():
    split = load_split('digits')
    copies = ImageSet.generated(split.train.of_class(9).images[:3], torch.full((3,), 9))
    assert 'mean distance 0.00' in show_nearest(split, copies, 9, 3).get_title('left')


def test_all_paths_start_from_the_same_noise():
    split = load_split('digits')
    net = unet(split, generator_settings(split, 'tiny')).eval()
    pipe = with_sampler(ClassConditionalPipeline(net, noise_schedule()))
    path = denoising_path(pipe, [3, 3, 9], steps=4)
    assert path.shape == (3, 4, 1, 8, 8) and path.dtype == torch.uint8 and torch.equal(path[0], path[1])
