"Slides need nothing from a network, and give no result away before its guess."
import functools
import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from slides import HEIGHT, MATHJAX, REVEAL, WIDTH, is_folded, laid_out
from slides import slides as made

CHROMIUM = '/usr/bin/chromium'
slides = functools.cache(made)
STAGES = sorted((ROOT / 'nbs').glob('[1-4]0_*.ipynb'))
DECKS = [ROOT / 'nbs/60_reading_group.ipynb', *STAGES, ROOT / 'nbs/25_after.ipynb']


@pytest.mark.parametrize('path', DECKS, ids=lambda p: p.stem)
def test_nothing_is_loaded_from_a_network(path):
    page = slides(path)
    loaded = re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="(?!data:)([^"]+)"', page)
    assert [x for x in loaded if not x.startswith(('static/', 'images/'))] == []
    assert 'theme/white.css' in page and '<script type="module">' not in page   # the other themes and mermaid load from elsewhere
    assert any(REVEAL in x for x in loaded) and any(MATHJAX in x for x in loaded)


def deck(path):
    "Slides as lists of cells."
    found = []
    for cell in laid_out(nbformat.read(path, as_version=4).cells):
        if cell.metadata.slideshow.slide_type == 'slide': found.append([])
        found[-1].append(cell)
    return found


@pytest.mark.parametrize('path', DECKS, ids=lambda p: p.stem)
def test_a_result_that_is_to_be_predicted_comes_with_the_next_key(path):
    folded, fragments = 0, 0
    for slide in deck(path):
        result = [is_folded(c) for c in slide]
        folded += sum(result)
        assert result == sorted(result)     # what is said of it comes on a later slide
        waits = [c.metadata.slideshow.slide_type == 'fragment' for c in slide]
        if len(slide) > 1 and result[1]: waits[1] = True        # the slide itself is the next key
        assert waits == result
        fragments += sum(c.metadata.slideshow.slide_type == 'fragment' for c in slide)
    assert folded or path not in STAGES
    assert slides(path).count('class="fragment"') == fragments


@pytest.mark.parametrize('path', DECKS, ids=lambda p: p.stem)
def test_a_slide_has_no_code_but_the_line_of_a_guess_and_nothing_of_the_leader(path):
    page, shown = slides(path), [c for slide in deck(path) for c in slide]
    assert len(re.findall('class="jp-CodeMirrorEditor', page)) == sum(c.source.startswith('guess = ...') for c in shown)
    assert 'check(' not in page and "Session 1: leader's page" not in page and 'No guess yet' not in page


@pytest.mark.slow
def test_a_slide_fits_on_the_screen(tmp_path):
    "Measured by a browser, on the slides that `make slides` has made."
    playwright = pytest.importorskip('playwright.sync_api')
    if not (ROOT / 'runs/slides/static').exists() or not Path(CHROMIUM).exists(): pytest.skip('wants `make slides`, and Chromium')
    shutil.copytree(ROOT / 'runs/slides/static', tmp_path / 'static')
    with playwright.sync_playwright() as p:
        page = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu']).new_page(viewport=dict(width=WIDTH, height=HEIGHT))
        page.context.set_offline(True)
        for path in DECKS:
            (tmp_path / 'page.html').write_text(slides(path))
            page.goto(f'file://{tmp_path}/page.html')
            page.wait_for_function('window.Reveal && Reveal.isReady() && MathJax.Hub.queue.pending == 0')
            high = page.evaluate("""() => [...document.querySelectorAll('.slides > section')].map(outer => {
                const inner = outer.querySelector('section')
                for (const s of [outer, inner]) { s.hidden = false; s.style.display = 'block' }
                const wide = [...inner.querySelectorAll('.jp-OutputArea-output')].map(o => o.scrollWidth)
                return [inner.innerText.slice(0, 40), inner.scrollHeight, Math.max(inner.scrollWidth, ...wide)] })""")
            assert len(high) == len(deck(path)) and [x for x in high if x[1] > HEIGHT or x[2] > WIDTH] == [], path.name


@pytest.mark.parametrize('path', STAGES, ids=lambda p: p.stem)
def test_every_guess_has_its_result_folded_below_it(path):
    cells = [(''.join(c['source']), c['metadata'].get('jupyter', {}).get('outputs_hidden'))
             for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code']
    waiting = 0
    for source, folded in cells:
        if source.startswith('guess = ...'): waiting += 1
        if source.lstrip().startswith('beside(guess') or '\nbeside(guess' in source:
            assert folded, source
            waiting -= 1
        assert waiting in (0, 1), source
    assert not waiting and sum(s.startswith('guess = ...') for s, _ in cells) >= 3


def test_no_text_in_a_figure_is_smaller_than_8_points():
    for path in sorted((ROOT / 'nbs').glob('[0-9]*.ipynb')):
        code = ''.join(''.join(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code')
        assert all(float(n) >= 8 for n in re.findall(r'fontsize=([\d.]+)', code)), path.name
