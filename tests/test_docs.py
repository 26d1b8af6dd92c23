"The site of the documentation, but for MkDocs itself: `make docs` builds it, and ends with an error at a broken link."
import json

import pytest
from conftest import ROOT
from docs import PARTS, api, broken, linked, notebook, plain, with_mathml


def test_a_notebook_of_the_site_has_no_cells_that_only_nbdev_needs():
    cells = [''.join(c['source']) for c in json.loads(notebook(ROOT / 'nbs/34_cards.ipynb'))['cells']]
    assert any('def model_card' in c for c in cells) and any('](07_diffusion.html)' in c for c in cells)
    assert not [c for c in cells if c.startswith('#|') or 'nbdev_export' in c or '.ipynb)' in c]


def test_text_that_a_cell_writes_is_of_the_site_too():
    pytest.importorskip('latex2mathml')
    written = [''.join(o.get('data', {}).get('text/markdown', '')) for c in json.loads(notebook(ROOT / 'nbs/49_sau_digits.ipynb'))['cells'] for o in c.get('outputs', [])]
    assert '](05_augment.html)' in ''.join(written) and '<math' in ''.join(written) and '.ipynb)' not in ''.join(written)


@pytest.mark.parametrize('link, leads', [('[a](nbs/10_collapse.ipynb)', '[a](10_collapse.html)'), ('[a](07_diffusion.ipynb#x)', '[a](07_diffusion.html#x)'),
                                         ('![a](nbs/images/x.png)', '![a](images/x.png)'), ('[a](CONTRIBUTING.md)', '[a](CONTRIBUTING.html)'),
                                         ('[a](tests/faults/kills.md)', '[a](kills.html)'), ('[a](https://b.c/d.ipynb)', '[a](https://b.c/d.ipynb)')])
def test_links_lead_to_pages_of_the_site(link, leads): assert linked(link) == leads


def test_every_notebook_has_a_place_in_the_menu():
    import re
    left = [p.name for p in (ROOT / 'nbs').glob('[0-9]*.ipynb')]
    for begins in PARTS.values(): left = [name for name in left if not re.match(begins, name)]
    assert not left


def test_a_module_s_page_has_what_its_arguments_say():
    page = api('ltnb.export')
    assert '### export_set' in page and '# the training set, filled up' in page and '### FORMATS\n\nA dict: `folder`, `parquet`' in page
    assert '### Run.figures' in api('ltnb.runs')


def test_formulas_need_no_script():
    pytest.importorskip('latex2mathml')
    shown = with_mathml('a $a^* | x_t$ and `$HOME and $x`\n\n$$ \\frac{1}{2} $$\n')
    assert shown.count('<math') == 2 and 'display="block"' in shown and '<mfrac>' in shown and '`$HOME and $x`' in shown
    assert not set('*|_') & set(shown.replace('`$HOME and $x`', ''))       # what Markdown would take for its own


def test_a_star_in_a_docstring_is_a_star():
    assert plain('### f\n\n```python\ndef f(*a):\n```\n\n*Write `a*b`/*.png and *.csv.*') == (
        '### f\n\n```python\ndef f(*a):\n```\n\nWrite `a*b`/\\*.png and \\*.csv.')
    assert '/test/CLASS/\\*.png, and' in api('ltnb.export')


def test_broken_links_are_found(tmp_path):
    (tmp_path / 'a.html').write_text('<h1 id="top">A</h1><a href="b.html#part">b</a><a href="#top"></a><a href="https://x.y/z"></a>')
    (tmp_path / 'b.html').write_text('<h2 id="part">B</h2><img src="../x.png"><a href="a.html"></a>')
    assert broken(tmp_path) == [('b.html', '../x.png')]
    (tmp_path / 'b.html').write_text('<h2>B</h2><a href="c.html"></a>')
    assert sorted(broken(tmp_path)) == [('a.html', 'b.html#part'), ('b.html', 'c.html')]
