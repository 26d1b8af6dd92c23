"""In a real browser: in JupyterLab stage notebooks are run from the menu, widgets clicked, dragged and typed at; and the page that
a study leaves, as on a phone, on a desk, by night and on paper.

Screenshots are left in tests/output."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, free_port

CHROMIUM = '/usr/bin/chromium'
playwright = pytest.importorskip('playwright.sync_api', reason='the browser tests need playwright')
if not Path(CHROMIUM).exists():
    pytest.skip(f'there is no {CHROMIUM}: the browser tests are skipped', allow_module_level=True)
expect = playwright.expect
expect.set_options(timeout=90_000)      # somebody else may have the cores for a while
OUTPUT = Path(__file__).parent / 'output'
TOKEN = 'tests'

SETUP = '''\
import torch
from ltnb.data import ImageSet
from ltnb.sources import load_split
from ltnb.filtering import DropOOD, NeighbourAgreement
from ltnb.metrics import flat
from ltnb.widgets import *

split = load_split('digits')
order = split.test.labels.argsort(stable=True)
wrong = torch.where(torch.arange(600) % 5 == 4, order.roll(60), order)
made = lambda i: ImageSet(split.test.images[i], split.test.labels[order], torch.ones(600, dtype=torch.bool))
mean_of = lambda s: torch.stack([flat(s.of_class(c).images).mean(0) for c in range(10)])
judge = lambda x: -4*torch.cdist(flat(x), mean_of(split.full))
drawn = dict(generator='runs/study/generators/cbdm', seed=0, per_class=60, sampler='s', steps=20, guidance=0.,
             generator_sha256='0')
gallery = Gallery(split, dict(ddpm=made(order), cbdm=made(wrong)), flat, judge,
                  dict(ddpm=drawn, cbdm=drawn | dict(seed=1)))'''
GENERATORS = '''\
from dataclasses import replace
from ltnb.diffusion import ddpm_loss, generator_settings
from ltnb.generators import train_generator
settings = replace(generator_settings(split, 'tiny'), steps=60)
pipe = train_generator(split, ddpm_loss, settings)'''


@pytest.fixture(scope='module')
def lab(tmp_path_factory, stage_study):
    """A JupyterLab of its own: no settings of the user, notebooks copied, so that nothing is changed here. Of the study
    that the notebooks show, a generator and a classifier are missing, to be trained in the browser."""
    home = tmp_path_factory.mktemp('lab')
    shutil.copytree(ROOT / 'nbs', home / 'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints'))
    for copy in 'run', 'study': shutil.copytree(stage_study, home / copy)
    shutil.rmtree(home / 'run/generators/ddpm')
    for part in 'samples/ddpm', 'classifiers/ce-0': (home / f'run/{part}.safetensors').unlink()
    for name, value in ('notification', '{"fetchNews": "false"}'), ('themes', '{"theme": "JupyterLab Light"}'):
        path = home / f'settings/@jupyterlab/apputils-extension/{name}.jupyterlab-settings'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    env = dict(os.environ, PYTHONPATH=str(ROOT), LTNB_RUN=str(home / 'run'), LTNB_SIZE='tiny', IN_TEST='1',
               JUPYTERLAB_SETTINGS_DIR=str(home / 'settings'), JUPYTERLAB_WORKSPACES_DIR=str(home / 'workspaces'),
               IPYTHONDIR=str(home / 'ipython'),
               **{f'JUPYTER_{k}_DIR': str(home / k.lower()) for k in ('CONFIG', 'DATA', 'RUNTIME')})
    env.pop('MPLBACKEND', None)
    port, log = free_port(), open(home / 'log', 'w')
    server = subprocess.Popen([sys.executable, '-m', 'jupyter', 'lab', '--no-browser', '--ServerApp.ip=127.0.0.1',
                               f'--ServerApp.port={port}', '--ServerApp.port_retries=0',
                               f'--IdentityProvider.token={TOKEN}', f'--ServerApp.root_dir={home}',
                               '--LabApp.news_url=None',
                               '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate',
                               '--allow-root'], env=env, stdout=log, stderr=log, cwd=home)
    yield home, f'http://127.0.0.1:{port}'
    server.terminate()
    server.wait(20)
    log.close()


@pytest.fixture(scope='module')
def browser():
    OUTPUT.mkdir(exist_ok=True)
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=[
            '--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking',
            '--disable-component-update', '--disable-sync'])
        yield b
        b.close()


def open_notebook(lab, browser, path, errors):
    "A page with the notebook opened; what the console calls an error is added to `errors`."
    home, url = lab
    page = browser.new_page(viewport=dict(width=1500, height=1000))
    page.set_default_timeout(90_000)
    page.on('console', lambda m: m.type == 'error' and errors.append(m.text))
    page.on('pageerror', lambda e: errors.append(str(e)))
    for _ in range(300):        # until the server answers
        try: page.goto(f'{url}/lab/tree/{path}?token={TOKEN}&reset'); break
        except playwright.Error: time.sleep(.2)
    page.locator('.jp-Notebook .jp-Cell').first.wait_for()
    page.get_by_text('| Idle').wait_for()       # asked to run before there is a kernel, JupyterLab asks which one
    return page


def menu(page, *texts):
    page.locator(f'.lm-MenuBar-itemLabel:text-is("{texts[0]}")').click()
    for text in texts[1:]: page.locator('.lm-Menu-itemLabel').get_by_text(text, exact=True).last.click()


def run_all(page, timeout=600_000):
    "Run all cells from the menu and wait until the last has its number and the kernel is idle; a cell whose code is folded shows no number."
    menu(page, 'Run', 'Run All Cells')
    page.wait_for_function("""() => {
        const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')].filter(c => !c.querySelector('.jp-InputPlaceholder'))
        const prompts = cells.map(c => c.querySelector('.jp-InputPrompt').textContent)
        return prompts.every(t => /\\[\\d+\\]/.test(t)) || document.querySelector(
            '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]')
    }""", timeout=timeout)
    page.get_by_text('| Idle').wait_for(timeout=timeout)


def shut_down(lab, page):
    "Close the page and end its kernel, which would keep its memory."
    api, key = f'{lab[1]}/api/kernels', f'?token={TOKEN}'
    for kernel in page.request.get(api + key).json(): page.request.delete(f'{api}/{kernel["id"]}{key}')
    page.close()


def troubles(page):
    "Error outputs and warnings that a reader would stumble over."
    return page.locator('[data-mime-type="application/vnd.jupyter.error"], '
                        '[data-mime-type="application/vnd.jupyter.stderr"], .jp-Dialog').all_inner_texts()


# ---- the stage notebooks

@pytest.mark.parametrize('name', [p.name for p in sorted((ROOT / 'nbs').glob('[1-4]0_*.ipynb'))])
def test_a_stage_notebook_runs_from_the_menu(lab, browser, name):
    errors = []
    page = open_notebook(lab, browser, f'nbs/{name}', errors)
    try:
        run_all(page)
        assert troubles(page) == []
        assert page.locator('.jp-OutputArea img[src^="data:image/png"], .jp-RenderedImage img').count()
        page.locator('.jp-RenderedImage').first.scroll_into_view_if_needed()
        assert errors == []
    finally:
        page.screenshot(path=OUTPUT / f'{Path(name).stem}.png')
        shut_down(lab, page)


# ---- the widgets: one notebook, written here

CELLS = dict(setup=SETUP, tail='browser = TailBrowser(gallery)\nbrowser',
             filter='explorer = FilterExplorer(gallery, DropOOD() & NeighbourAgreement())\nexplorer',
             map='tail_map = TailMap(gallery, 4)\ntail_map',
             generators=GENERATORS, guidance='guided = GuidanceExplorer(split, {"tau 0": pipe})\nguided',
             path='path = DenoisingPath(split, {"tau 0": pipe})\npath',
             monitor='monitor = TrainingMonitor(lambda watch: train_generator(split, ddpm_loss, replace(settings, '
                     'steps=200), path="trained", watch=watch), split, every=1.)\nmonitor',
             compare='compare = TailCompare(split, dict(all=judge, few=lambda x: '
                     '-torch.cdist(flat(x), mean_of(split.train))))\ncompare', last='"a cell to run"')


@pytest.fixture(scope='module')
def notebook(lab, browser):
    home, _ = lab
    (home / 'tests').mkdir()
    kernel = dict(display_name='python3', language='python', name='python3')
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS.values()],
                                  metadata=dict(kernelspec=kernel))
    nbformat.write(nb, home / 'tests/widgets.ipynb')
    errors = []
    page = open_notebook(lab, browser, 'tests/widgets.ipynb', errors)
    page.folder, page.errors = home / 'tests', errors
    try: run_all(page)
    except playwright.Error: page.screenshot(path=OUTPUT / 'widgets.png'); raise
    yield page
    shut_down(lab, page)


@pytest.fixture
def cell(notebook, request):
    "The cell that a test is named for; afterwards there is a picture of it, and no error was told."
    name = request.node.name.split('_')[1]
    c = notebook.locator('.jp-Notebook .jp-CodeCell').nth(list(CELLS).index(name))
    c.scroll_into_view_if_needed()
    yield c
    picture(c, request.node.name.removeprefix('test_'))
    assert troubles(notebook) == [] and notebook.errors == []


def picture(cell, name): cell.locator('.jp-OutputArea').first.screenshot(path=OUTPUT / f'widget_{name}.png')


def changes(locator, act, what='inner_text'):
    "Do `act` and wait until the locator's text (or another property) is another; returns it."
    read = getattr(locator, what) if isinstance(what, str) else lambda: what(locator)
    before = read()
    act()
    until(lambda: read() != before)
    return read()


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f'not after {seconds} seconds'
        time.sleep(.05)


PIXELS = lambda grid: grid.evaluate("g => [...g.querySelectorAll('canvas')].map(c => c.toDataURL()).join()")


def drag(page, slider, share):
    "Drag the handle of an ipywidgets slider to a share of its track."
    handle, track = slider.locator('.noUi-handle'), slider.locator('.noUi-target')
    handle.scroll_into_view_if_needed()
    h, t = handle.bounding_box(), track.bounding_box()
    page.mouse.move(h['x'] + h['width'] / 2, h['y'] + h['height'] / 2)
    page.mouse.down()
    for k in range(1, 6):
        page.mouse.move(h['x'] + (t['x'] + share * t['width'] - h['x']) * k / 5, h['y'] + h['height'] / 2)
    page.mouse.up()


def test_tail_browser(cell, notebook):
    grid, info, press = cell.locator('.ltnb-grid').nth(0), cell.locator('.widget-html').nth(2), notebook.keyboard.press
    expect(cell).to_contain_text('training images')
    item = grid.locator('.cell')
    item.nth(4).click()
    for text in 'sample 544', 'the judge sees', 'sample(load_generator(': expect(info).to_contain_text(text)
    expect(item.nth(4)).to_have_attribute('aria-selected', 'true')
    item.nth(6).dblclick()
    expect(info).to_contain_text('sample 546')
    for key in 'Enter', ' ': press(key)         # to open what is selected changes nothing
    item.nth(4).click()
    expect(info).to_contain_text('sample 544')
    expect(cell.locator('.ltnb-grid').nth(2)).to_contain_text('the sample')
    for key, number in ('ArrowRight', 545), ('ArrowDown', 553):
        press(key)
        expect(info).to_contain_text(f'sample {number}')
    n = notebook.locator('.jp-Notebook .jp-Cell').count()
    for number in 554, 555:
        press('d')
        expect(info).to_contain_text(f'sample {number}')
    expect(grid.locator('.cell.drop')).to_have_count(2)
    assert notebook.locator('.jp-Notebook .jp-Cell').count() == n       # JupyterLab's d d deletes a cell
    press('k')
    expect(grid.locator('.cell.keep')).to_have_count(1)
    press('?')
    expect(cell).to_contain_text('the same for the whole page')
    press('?')
    expect(cell.get_by_text('the same for the whole page')).not_to_be_visible()
    picture(cell, 'tail_marked')
    press('PageDown')
    expect(grid).to_contain_text('#588')
    cell.get_by_role('button', name='◀').click()
    expect(grid).to_contain_text('#540')
    cell.get_by_label('sort by').select_option('distance to the nearest training image')
    expect(grid).not_to_contain_text('#')
    cell.get_by_label('generator').select_option('side by side')
    expect(grid).to_contain_text('ddpm')
    changes(grid, lambda: cell.get_by_label('kind').select_option('AID'), PIXELS)
    cell.get_by_label('class').select_option('0 · 114 · many')
    expect(cell.locator('.widget-html').nth(0)).to_contain_text('0: 114 training images (many)')
    cell.get_by_label('file').fill('my marks.json')
    cell.get_by_label('file').press('Enter')
    cell.get_by_role('button', name='Save marks').click()
    until((notebook.folder / 'my marks.json').exists)
    from ltnb.marks import load_marks
    marks = load_marks(notebook.folder / 'my marks.json')
    assert [(m['generator'], m['keep'], m['drop']) for m in marks] == [('cbdm', [555], [553, 554])]


def test_filter_explorer(cell, notebook):
    kept = cell.locator('.widget-html').nth(2)      # after the two charts
    picture(cell, 'filter')
    grid = cell.locator('.ltnb-grid').nth(0)
    before = PIXELS(grid)
    assert 'kept' in changes(kept, lambda: drag(notebook, cell.locator('.widget-slider').nth(0), .2))
    until(lambda: PIXELS(grid) != before)
    assert cell.locator('svg[aria-label="histogram of scores"]').count() == 1
    chosen = cell.get_by_label('histogram of', exact=True)
    changes(cell.locator('svg[role="img"]').nth(0), lambda: chosen.select_option('NeighbourAgreement(k=1)'),
            'inner_html')


def opaque(canvas):
    "Where a canvas has ink: the first place that has, in the page's pixels."
    x, y = canvas.evaluate("""c => {
        const { data, width } = c.getContext('2d').getImageData(0, 0, c.width, c.height)
        const i = data.findIndex((v, k) => k % 4 === 3 && v > 150)
        return [(i >> 2) % width, Math.floor((i >> 2) / width)].map(v => v * c.clientWidth / c.width)
    }""")
    box = canvas.bounding_box()
    return box['x'] + x, box['y'] + y


def test_map_of_images(cell, notebook):
    plot, heading, info = cell.locator('.ltnb-map'), cell.locator('.widget-html', has_text='selected').first, cell.locator('[role=status]').first
    points, ring, images = plot.locator('canvas').nth(0), plot.locator('canvas').nth(1), cell.locator('.ltnb-grid').nth(0)
    ink = lambda canvas: canvas.evaluate('c => c.toDataURL()')
    expect(heading).to_have_text('nothing is selected')
    expect(info).to_contain_text('210 points')
    plot.scroll_into_view_if_needed()
    box, before = plot.bounding_box(), ink(points)
    corners = [(box['x'] + box['width'] * x, box['y'] + box['height'] * y) for x, y in ((.01, .01), (.5, .01), (.5, .99), (.01, .99))]
    notebook.mouse.move(*corners[0])
    notebook.mouse.down()
    for corner in corners[1:]: notebook.mouse.move(*corner, steps=8)
    picture(cell, 'map_lasso')
    notebook.mouse.up()
    expect(heading).to_contain_text('cbdm · page 1 of')
    half = int(re.match(r'(\d+) selected', heading.inner_text())[1])
    assert 20 < half < 190
    until(lambda: ink(points) != before)
    expect(images.locator('.cell')).to_have_count(24)
    before = ink(ring)
    images.locator('.cell').nth(5).click()
    expect(info).to_contain_text('image')
    until(lambda: ink(ring) != before)
    notebook.keyboard.press('PageDown')
    expect(heading).to_contain_text('page 2 of')
    notebook.mouse.click(*opaque(points))
    expect(heading).to_contain_text('24 selected')
    n, press = notebook.locator('.jp-Notebook .jp-Cell').count(), notebook.keyboard.press
    expect(plot).to_be_focused()
    for key in 'd', 'd': press(key)             # to JupyterLab, d d deletes a cell
    changes(info, lambda: press('ArrowDown'))
    changes(points, lambda: press('+'), ink)
    changes(info, lambda: press('ArrowRight'))
    picture(cell, 'map_zoomed')
    changes(points, lambda: press('0'), ink)
    press('Escape')
    expect(heading).to_have_text('nothing is selected')
    press('Enter')                              # nothing was looked at: the point in the middle
    expect(heading).to_contain_text('24 selected')
    expect(plot).to_be_focused()
    assert notebook.locator('.jp-Notebook .jp-Cell').count() == n
    cell.locator('input[type=checkbox]').nth(3).uncheck()
    expect(heading).not_to_contain_text('cbdm')
    cell.get_by_label('classes').select_option('all classes')
    expect(info).to_contain_text('points, 0 selected')
    cell.get_by_role('button', name='Nearest (Enter)').click()
    expect(cell.locator('.jp-OutputArea')).to_contain_text('go to a point first')
    cell.locator('input[type=checkbox]').nth(3).check()


def test_guidance_explorer(cell, notebook):
    heads, grids = cell.locator('.widget-html', has_text='steps'), cell.locator('.ltnb-grid')
    drawn = lambda: [expect(head).not_to_contain_text('drawn', timeout=180_000) for head in heads.all()]
    expect(cell.locator('.widget-html', has_text='training images')).to_contain_text('seed 0')
    drawn()
    before = PIXELS(grids.nth(0))
    cell.get_by_label('class').select_option('0 · 114 · many')
    until(lambda: PIXELS(grids.nth(0)) != before)
    drawn()
    text, policy = cell.get_by_label('as text'), cell.get_by_label('policy')
    drag(notebook, cell.locator('.widget-slider').nth(0), 1.)       # the guidance
    expect(heads.nth(1)).to_contain_text('guidance 4')
    drawn()
    policy.select_option('interval')
    handle = cell.locator('.noUi-handle:visible').nth(4)            # the upper of the interval's
    expect(handle).to_be_visible()
    handle.focus()
    notebook.keyboard.press('ArrowRight')
    expect(text).to_have_value('interval:lo=0.3:hi=3')
    expect(heads.nth(1)).to_contain_text('interval:lo=0.3:hi=3, guidance 4')
    drawn()
    until(lambda: PIXELS(grids.nth(0)) != PIXELS(grids.nth(1)))     # the same noise, another guidance
    picture(cell, 'guidance_interval')
    text.fill('interval:hi=much')
    text.press('Enter')
    expect(cell.locator('[role=status]')).to_contain_text("hi must be of type float, not 'much'")
    text.fill('cads')
    text.press('Enter')
    expect(policy).to_have_value('cads')
    expect(cell.locator('.noUi-handle:visible')).to_have_count(3)
    grids.nth(0).locator('.cell').nth(5).click()
    expect(grids.nth(1).locator('.cell').nth(5)).to_have_attribute('aria-selected', 'true')
    drawn()
    changes(heads.nth(1), lambda: drag(notebook, cell.locator('.widget-slider').nth(1), 1.))
    cell.get_by_role('button', name='Cancel').click()
    expect(heads.nth(1)).to_contain_text('50 steps')
    cell.get_by_role('button', name='Draw').click()
    drawn()


def test_path_of_denoising(cell, notebook):
    large, film = cell.locator('.ltnb-grid').nth(0), cell.locator('.ltnb-grid').nth(1)
    before = PIXELS(large)
    info = cell.locator('.widget-html', has_text='after step')
    expect(info).to_contain_text('t = 0')
    changes(info, lambda: drag(notebook, cell.locator('.widget-slider').nth(0), .5))
    until(lambda: PIXELS(large) != before)
    film.locator('.cell').nth(2).click()
    expect(info).to_contain_text('after step 3 of 20')


def test_monitor_of_training(cell, notebook):
    info = cell.locator('.widget-html').nth(0)
    expect(info).to_contain_text('not started')
    button = lambda name: cell.get_by_role('button', name=name, exact=True)
    button('Start').click()
    expect(info).to_contain_text('steps a second', timeout=180_000)
    cell.locator('.ltnb-grid .cell').first.wait_for()
    picture(cell, 'monitor_running')
    last = notebook.locator('.jp-Notebook .jp-CodeCell').nth(len(CELLS) - 1)       # the kernel stays usable
    last.locator('.cm-content').click()
    notebook.keyboard.press('Control+Enter')
    expect(last.locator('.jp-OutputArea')).to_contain_text('a cell to run')
    button('Pause').click()
    expect(info).to_contain_text('paused')
    button('Go on').click()
    expect(info).to_contain_text('running')
    button('Stop').click()
    expect(info).to_contain_text('stopped')
    assert (notebook.folder / 'trained.checkpoint.safetensors').exists()
    button('Go on').click()
    expect(info).to_contain_text('finished · step 200 of 200', timeout=300_000)     # two steps a second on a slow machine
    assert (notebook.folder / 'trained').is_dir()


def test_compare_classifiers(cell, notebook):
    caption = cell.locator('.widget-html').nth(3)
    expect(caption).to_contain_text('Click a cell')
    cell.locator('.ltnb-grid').nth(1).locator('.cell').last.click()
    expect(caption).to_contain_text('images of 9 that few takes for 9')
    expect(cell.locator('.ltnb-grid').nth(2).locator('.cell')).to_have_count(24)
    notebook.keyboard.press('ArrowUp')
    expect(caption).to_contain_text('images of 8 that few takes for 9')


# ---- every key and button that the help of a widget names, on the folder of a study

STUDY = dict(setup='''\
import torch
from dataclasses import replace
from functools import partial
from pathlib import Path
from ltnb.classifiers import logits
from ltnb.diffusion import ddpm_loss, generator_settings
from ltnb.generators import load_generator, train_generator
from ltnb.data import ImageSet
from ltnb.diffusion import sample
from ltnb.runs import notebook_run
from ltnb.widgets import *
from ltnb.widgets.gallery import study_classifier
split = notebook_run().split
gallery = Gallery(split, '../study')
pipes = {'cbdm': load_generator('../study/generators/cbdm')}
y = torch.full((24,), split.num_classes - 1)        # what a tiny study draws is noise, which misses nothing: here one sample, again and again
one = Gallery(split, dict(cbdm=ImageSet.generated(sample(pipes['cbdm'], y[:1], steps=5).repeat(24, 1, 1, 1), y)))''',
             tail='TailBrowser(gallery)', missed='MissedModes(one)', wall='TailWall(gallery)', map='TailMap(gallery)', filter='FilterExplorer(gallery)',
             guidance='GuidanceExplorer(split, pipes)', path='DenoisingPath(split, pipes)',
             monitor='monitor = TrainingMonitor(lambda watch: train_generator(split, ddpm_loss, replace(generator_settings(split, "tiny"), steps=20_000), path="net", '
                     'watch=watch), split)\nmonitor',
             compare='TailCompare(split, {row: partial(logits, study_classifier(split, Path("../study"), row)) for row in ("ce", "oracle")})')


@pytest.fixture(scope='module')
def study_views(lab, browser):
    home, _ = lab
    (home / 'views').mkdir()
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in STUDY.values()],
                                  metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')))
    nbformat.write(nb, home / 'views/study.ipynb')
    errors = []
    page = open_notebook(lab, browser, 'views/study.ipynb', errors)
    page.errors, page.folder = errors, home / 'views'
    run_all(page)
    assert troubles(page) == []
    yield page
    shut_down(lab, page)


@pytest.mark.parametrize('name', list(STUDY)[1:])
def test_every_key_and_button_of_the_help_works(study_views, name):
    from ltnb import widgets
    from ltnb.widgets.base import named_in
    kind = getattr(widgets, re.search(r'(\w+)\(', STUDY[name].replace('monitor = ', ''))[1])
    cell = study_views.locator('.jp-Notebook .jp-CodeCell').nth(list(STUDY).index(name))
    cell.scroll_into_view_if_needed()
    cell.get_by_role('button', name='?', exact=True).click()
    expect(cell.get_by_text(next(iter(kind.HELP.values())))).to_be_visible()
    grids = cell.locator('.ltnb-grid' + ':has(.cell)' * (name in ('filter', 'wall')))     # of a filter that keeps nothing one is empty
    grid = grids.last if name == 'wall' else grids.first
    for what in (n for keys in kind.HELP for n in named_in(keys)):
        if what[0] == '(': continue     # something for the mouse, which a test of its own tries
        if what[0] == '[': cell.get_by_role('button', name=what[1:-1], exact=True).first.click()
        else:
            place = cell.locator('.ltnb-map') if name == 'map' and what[:4] != 'Page' else grid.locator('.cell').first
            place.click() if what in ('Enter', 'Space') and name != 'map' else place.focus()
            study_views.keyboard.press(what)
        for _ in range(3 * (what == '[Stop]')):     # a page that is laid out anew under the mouse may lose a click
            try: expect(cell).to_contain_text('stopped', timeout=10_000)
            except AssertionError: cell.get_by_role('button', name='Stop', exact=True).click()
        if what == '[Stop]': expect(cell).to_contain_text('stopped')
    if name not in ('filter', 'monitor', 'map'):
        place = grid.locator('.cell').first
        place.click(), place.dblclick()
        expect(grid.locator('[aria-selected="true"]')).to_have_count(1)
    file = cell.get_by_label('view', exact=True).last       # the wall has opened a browser with one of its own
    file.fill(f'{name}.json')
    file.press('Tab')
    cell.get_by_role('button', name='Save view').last.click()
    until((study_views.folder / f'{name}.json').exists)
    cell.get_by_role('button', name='Load view').last.click()
    picture(cell, f'study_{name}')
    said = cell.locator('[role=status]').all_inner_texts()[-1:]     # of `View.say`; refused input would stand there
    assert not said or said[0].startswith('saved in') or name == 'map', said
    assert troubles(study_views) == [] and study_views.errors == []
    log = (study_views.folder.parent / 'log').read_text()
    assert 'Traceback' not in log, log[-2000:]


def contrast(locator):
    return locator.evaluate("""e => {
        const rgb = c => c.match(/[\\d.]+/g).map(Number)
        const linear = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4
        const light = c => { const [r, g, b] = rgb(c).slice(0, 3).map(linear); return .2126*r + .7152*g + .0722*b }
        let back = e
        while (rgb(getComputedStyle(back).backgroundColor)[3] === 0) back = back.parentElement
        const colours = [getComputedStyle(e).color, getComputedStyle(back).backgroundColor]
        const [a, b] = colours.map(light).sort((x, y) => y - x)
        return (a + .05) / (b + .05)
    }""")


def test_dark_and_light_themes_read_well_and_a_restart_leaves_no_ghost(notebook):
    cells = notebook.locator('.jp-Notebook .jp-CodeCell')
    for theme in 'JupyterLab Light', 'JupyterLab Dark':
        menu(notebook, 'Settings', 'Theme', theme)
        notebook.wait_for_function(f"document.body.dataset.jpThemeName === '{theme}'")
        for name in 'tail', 'filter', 'map', 'guidance', 'path', 'monitor', 'compare':
            c = cells.nth(list(CELLS).index(name))
            c.scroll_into_view_if_needed()
            picture(c, f'{name}_{theme[11:].lower()}')
        for kind in '.ltnb-grid .caption:visible', '.jp-OutputArea .widget-html-content:visible':
            for text in notebook.locator(kind).all()[:3]: assert contrast(text) >= 4.5
    menu(notebook, 'Kernel', 'Restart Kernel and Run All Cells…')
    notebook.locator('.jp-Dialog button', has_text='Restart').click()
    expect(cells.last.locator('.jp-InputPrompt')).to_have_text(re.compile(r'\*| '))
    expect(cells.last.locator('.jp-InputPrompt')).to_have_text(f'[{len(CELLS)}]:', timeout=180_000)
    assert troubles(notebook) == []
    tail = cells.nth(1)
    expect(tail.locator('.ltnb-grid')).to_have_count(3)
    tail.scroll_into_view_if_needed()
    for n in 1, 2:              # the cell run twice: one widget, and it works
        tail.locator('.cm-content').click()
        notebook.keyboard.press('Control+Enter')
        expect(tail.locator('.jp-InputPrompt')).to_have_text(f'[{len(CELLS) + n}]:')
        expect(tail.locator('.ltnb-grid')).to_have_count(3)
    tail.locator('.ltnb-grid').nth(0).locator('.cell').nth(1).click()
    expect(tail.locator('.widget-html').nth(2)).to_contain_text('sample 541')
    expect(tail.locator('.ltnb-grid')).to_have_count(3)
    assert troubles(notebook) == [] and notebook.errors == []


# ---- the page that a study leaves

@pytest.fixture(scope='module')
def study_page(tmp_path_factory):
    "A report of the recorded study of the digits, digits standing in for its pictures: the address of a file."
    from ltnb.report import report
    from ltnb.show import png
    from ltnb.sources import load_split
    results = json.loads((ROOT / 'nbs/recorded/digits/study.json').read_text())
    test = load_split('digits').test
    eight = lambda c: png(test.of_class(c).images[:8], 4)
    missed = lambda c: dict(picture=png(test.of_class(c).images[:12], 6), missed=10 + c, of=60)
    results['pictures'] = dict(tail={f'{c}': {k: eight(c) for k in ('real', 'ddpm', 'cbdm', 'cbdm+filter')} for c in range(10)},
                               kinds={f'{c}': dict(ID=eight(c), OOD=eight(0)) for c in range(6, 10)},
                               missed={f'{c}': dict(ddpm=missed(c), cbdm=missed(c)) for c in range(10)})
    path = tmp_path_factory.mktemp('report') / 'report.html'
    path.write_text(report(results))
    return path.as_uri()


@pytest.fixture
def opened(browser, study_page):
    "`opened(width, …)`: the report in a window; afterwards no error was told, and nothing was fetched but the file."
    pages, errors, fetched = [], [], []
    def go(width=1280, **kwargs):
        page = browser.new_page(viewport=dict(width=width, height=900), **kwargs)
        page.on('console', lambda m: errors.append(m.text))
        page.on('pageerror', lambda e: errors.append(str(e)))
        page.on('request', lambda r: fetched.append(r.url))
        page.goto(study_page)
        pages.append(page)
        return page
    yield go
    for page in pages: page.close()
    assert errors == [] and {url for url in fetched if not url.startswith('data:image/png')} == {study_page}


TOO_SMALL = """() => [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && [...e.childNodes].some(
    n => n.nodeType == 3 && n.data.trim())).map(e => [e.textContent.trim(), parseFloat(getComputedStyle(e).fontSize)
    * (e instanceof SVGElement ? Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b) : 1)]).filter(([_, size]) => size < 8*96/72 - .01)"""


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [390, 1280])
def test_the_report_fits_phone_and_desk_and_is_legible_by_day_and_night(opened, width, scheme):
    page = opened(width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate('document.documentElement.scrollWidth') == width
    assert page.evaluate("[...document.querySelectorAll('img.open, svg, select, td, th')].filter(e => e.checkVisibility() && !e.closest('.scroll') "
                         "&& e.getBoundingClientRect().right > innerWidth).length") == 0
    assert page.evaluate(TOO_SMALL) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == 'rgb(21, 24, 27)'
    assert dark == (scheme == 'dark')
    for kind in 'li', '.note', 'figcaption', 'summary', 'td', 'th small', 'select', 'pre':
        for text in page.locator(f'{kind}:visible').all()[:2]: assert contrast(text) >= 4.5, kind
    charts = page.locator('figure svg:visible')
    assert charts.count() == 7
    for chart in charts.all(): assert contrast(chart.locator('text').first) >= 7
    page.screenshot(path=OUTPUT / f'report_{width}_{scheme}.png', full_page=True)


def test_a_class_is_chosen_from_the_list_by_keyboard(opened):
    page = opened(390)
    choose, panels = page.get_by_label('Class', exact=True), page.locator('.modes:visible')
    expect(panels).to_have_count(1)
    expect(panels).to_have_attribute('aria-label', '9')
    choose.focus()
    page.keyboard.press('ArrowDown')
    expect(panels).to_have_attribute('aria-label', '8')
    expect(panels).to_contain_text('DDPM misses 18 of 60')
    page.keyboard.press('End')
    expect(panels).to_have_attribute('aria-label', '0')
    expect(panels).to_have_count(1)


@pytest.mark.parametrize('width', [390, 1280])
def test_an_image_is_enlarged_by_enter_and_by_a_click_and_put_back_by_escape(opened, width):
    page = opened(width)
    image, box = page.get_by_role('button', name='9: DDPM', exact=True), page.locator('dialog')
    page.locator('h1').click()
    for _ in range(2): page.keyboard.press('Tab')       # the first image, then this one
    expect(image).to_be_focused()
    page.keyboard.press('Enter')
    expect(box).to_be_visible()
    expect(box).to_contain_text('9: DDPM')
    large, small = (e.bounding_box() for e in (box.locator('img'), image))
    assert large['width'] > 1.5 * small['width'] and large['x'] >= 0 and large['x'] + large['width'] <= width
    assert large['width'] / large['height'] == pytest.approx(35 / 17, rel=.05)
    assert box.locator('img').evaluate('e => getComputedStyle(e).imageRendering') == 'pixelated'
    page.screenshot(path=OUTPUT / f'report_enlarged_{width}.png')
    page.keyboard.press('ArrowRight')
    expect(box).to_contain_text('9: CBDM')
    for _ in range(2): page.keyboard.press('ArrowLeft')
    expect(box).to_contain_text('9: real, held out')
    page.keyboard.press('Escape')
    expect(box).to_be_hidden()
    expect(page.get_by_role('button', name='9: real, held out')).to_be_focused()
    image.click()
    expect(box).to_be_visible()
    page.keyboard.press('Enter')        # on the button to close
    expect(box).to_be_hidden()
    expect(image).to_be_focused()


def test_without_scripts_and_on_paper_everything_is_there(opened):
    page = opened(java_script_enabled=False)
    expect(page.locator('.modes:visible')).to_have_count(10)
    expect(page.get_by_label('Class', exact=True)).to_be_hidden()
    for script in True, False:
        page = opened(color_scheme='dark', java_script_enabled=script)
        page.emulate_media(media='print')
        expect(page.locator('.modes:visible')).to_have_count(10)
        expect(page.locator('figure .wide:visible')).to_have_count(7)
        height = lambda: page.locator('details').nth(1).bounding_box()['height']
        folded = height()
        assert folded > 100     # its table is there
        if script:
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == 'rgb(255, 255, 255)'
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
            expect(page.locator('details:not([open])')).to_have_count(0)
            page.pdf(path=OUTPUT / 'report.pdf', format='A4', print_background=True)
            page.evaluate("dispatchEvent(new Event('afterprint'))")
            expect(page.locator('details[open]')).to_have_count(0)
