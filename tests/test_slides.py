"Slides need nothing from a network, and give no result away before its guess."
import json
import re

import pytest
from conftest import ROOT
from slides import MATHJAX, REVEAL, slides

STAGES = sorted((ROOT / 'nbs').glob('[1-4]0_*.ipynb'))


@pytest.mark.parametrize('path', [ROOT / 'nbs/60_reading_group.ipynb', *STAGES], ids=lambda p: p.stem)
def test_nothing_is_loaded_from_a_network(path):
    page = slides(path)
    loaded = re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="(?!data:)([^"]+)"', page)
    assert [x for x in loaded if not x.startswith(('static/', 'images/'))] == []
    assert 'theme/white.css' in page and '<script type="module">' not in page   # the other themes and mermaid load from elsewhere
    assert any(REVEAL in x for x in loaded) and any(MATHJAX in x for x in loaded)


@pytest.mark.parametrize('path', STAGES, ids=lambda p: p.stem)
def test_a_result_that_is_to_be_predicted_comes_with_the_next_key(path):
    cells = json.loads(path.read_text())['cells']
    folded = [c for c in cells if c['metadata'].get('jupyter', {}).get('outputs_hidden')]
    assert folded and slides(path).count('class="fragment"') == len(folded)


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
    for path in sorted((ROOT / 'nbs').glob('[0-46-9]*.ipynb')):
        code = ''.join(''.join(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'code')
        assert all(float(n) >= 8 for n in re.findall(r'fontsize=([\d.]+)', code)), path.name
