"The site of the documentation, but for MkDocs itself: `make docs` builds it, and ends with an error at a broken link."
import functools
import importlib
import inspect
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from docs import PARTS, broken, graph_folded, notebook, with_mathml
from docs_api import api, fitted, head, linked, modules, plain


def test_a_notebook_of_the_site_has_no_cells_that_only_nbdev_needs():
    cells = [''.join(c['source']) for c in json.loads(notebook(ROOT / 'nbs/34_cards.ipynb'))['cells']]
    assert any('def model_card' in c for c in cells) and any('](07_diffusion.html)' in c for c in cells)
    assert 'Module: [`ltnb.cards`](api/ltnb.cards.html)' in cells[0]
    assert not [c for c in cells if c.startswith('#|') or 'nbdev_export' in c or '.ipynb)' in c]


def test_what_jupyterlab_folds_is_folded_here():
    pytest.importorskip('latex2mathml')
    cells = json.loads(notebook(ROOT / 'nbs/10_collapse.ipynb'))['cells']
    tags = lambda begins: [c['metadata']['tags'] for c in cells if ''.join(c['source']).startswith(begins)]
    assert tags('beside(guess') and all('output-hidden' in t for t in tags('beside(guess')) and tags('guess = ...')[0] == []
    assert 'input-hidden' in [t for c in cells for t in c['metadata'].get('tags', [])]


def test_text_that_a_cell_writes_is_of_the_site_too():
    pytest.importorskip('latex2mathml')
    written = [''.join(o.get('data', {}).get('text/markdown', '')) for c in json.loads(notebook(ROOT / 'nbs/49_sau_parts.ipynb'))['cells'] for o in c.get('outputs', [])]
    assert '](30_filtering.html)' in ''.join(written) and '<math' in ''.join(written) and '.ipynb)' not in ''.join(written)


@pytest.mark.parametrize('link, leads', [('[a](nbs/10_collapse.ipynb)', '[a](10_collapse.html)'), ('[a](07_diffusion.ipynb#x)', '[a](07_diffusion.html#x)'),
                                         ('![a](nbs/images/x.png)', '![a](images/x.png)'), ('[a](CONTRIBUTING.md)', '[a](CONTRIBUTING.html)'),
                                         ('[a](tests/faults/kills.md)', '[a](kills.html)'), ('[a](https://b.c/d.ipynb)', '[a](https://b.c/d.ipynb)'),
                                         ('[pyproject.toml](pyproject.toml)', '`pyproject.toml`'),
                                         ('`ltnb.core.rng`', '[`ltnb.core.rng`](api/ltnb.core.html#rng)'),
                                         ('`ltnb.widgets.map`', '[`ltnb.widgets.map`](api/ltnb.widgets.map.html)'),
                                         ('`ltnb.widgets`', '`ltnb.widgets`'), ('```\n`ltnb.core`\n```', '```\n`ltnb.core`\n```')])
def test_links_lead_to_pages_of_the_site(link, leads): assert linked(link) == leads


def test_every_notebook_has_a_place_in_the_menu():
    left = [p.name for p in (ROOT / 'nbs').glob('[0-9]*.ipynb')]
    for begins in PARTS.values(): left = [name for name in left if not re.match(begins, name)]
    assert not left


def test_a_module_s_page_has_each_export_as_its_source_has_it():
    page = api('ltnb.export')
    assert '## export_set {#export_set}' in page and '# the training set, filled up' in page and 'Keys: `folder`, `parquet`' in page
    assert 'Notebook: [Export](../42_export.html)' in page and re.search(r'\[Source\]\(../42_export.html#cell-id=\w{8}\)', page)
    assert '### Run.figures' in (runs := api('ltnb.runs')) and 'ltnb.specs.RunSettings' not in runs


def test_defaults_are_those_of_the_source():
    assert 'filters:dict=FILTERS' in (page := api('ltnb.teaching')) and ' at 0x' not in page
    assert 'as a diffusers pipeline' in (page := api('ltnb.diffusion')) and '\n\nCalled: Draw an image' in page and '### ClassConditionalPipeline.__' not in page
    assert 'def pipeline_code() -> str:' in api('ltnb.cards')              # behind a cache


def test_a_class_s_head_has_its_fields_and_what_takes_one_line():
    from ltnb.data import Split
    from ltnb.filters import Filter
    assert "    full: ImageSet = None " in (split := head(Split)) and '@property\n    def prior(self)' in split and 'left_out' not in split
    assert 'def score(self, features, labels): return torch.zeros(len(labels))' in (code := head(Filter)) and '__repr__' not in code


@pytest.mark.parametrize('line, shown', [('f(a,    # short', 'f(a,    # short'), ('f(a=1,  # of more words', 'f(a=1,  # of more\n        # words'),
                                         ('# all of it is said', '# all of it is\n# said'),
                                         ('def f(one, two): # three', 'def f(one, two):\n    # three'),
                                         ('f(a, b, c, d, e, f, g, h)', 'f(a, b, c, d, e, f, g, h)')])
def test_a_long_comment_goes_on_below(line, shown): assert fitted(line, 18) == shown


def exports():
    "Name -> what a module exports; of a class its own methods, too."
    for name in modules():
        module = importlib.import_module(name)
        for symbol in module.__all__:
            x = getattr(module, symbol)
            if callable(x): yield f'{name}.{symbol}', x
            for k, f in vars(x).items() if inspect.isclass(x) else ():
                f = getattr(f, 'fget', None) or getattr(f, '__func__', None) or (f.func if isinstance(f, functools.cached_property) else f)
                inherited = any(hasattr(base, k) for base in x.__mro__[1:])
                if inspect.isfunction(f) and not k.startswith('_') and not inherited and k not in getattr(x, '__dataclass_fields__', ()):
                    yield f'{name}.{symbol}.{k}', f


def test_whatever_is_exported_says_what_it_does():
    one_line = lambda f: len([line for line in inspect.getsource(f).splitlines() if not line.strip().startswith('@')]) == 1
    silent = [name for name, x in exports() if not x.__doc__ and not ('.' in getattr(x, '__qualname__', '') and one_line(x))]
    assert not silent


def test_the_graph_is_folded_where_nothing_draws_it():
    text = graph_folded('a\n\n```mermaid\ngraph TD\n  b --> c\n  b --> d\n  e --> c\n```\n')
    assert text == 'a\n\n??? quote "The graph, as text"\n\n        b → c, d\n        e → c\n\n'


def test_the_search_has_its_worker_in_a_page_that_was_opened_as_a_file(tmp_path):
    playwright = pytest.importorskip('playwright.sync_api')
    if not Path('/usr/bin/chromium').exists(): pytest.skip('there is no /usr/bin/chromium')
    shutil.copy(ROOT / 'tests/site/iframe-worker.js', tmp_path)
    (tmp_path / 'work.js').write_text('addEventListener("message", e => postMessage(e.data + 1))')
    (tmp_path / 'index.html').write_text('<body><script src="iframe-worker.js"></script><script>const w = new Worker("work.js"); w.addEventListener'
                                         '("message", e => document.title += e.data); w.postMessage(1)\n'
                                         'setTimeout(() => w.postMessage(4), 50)</script>')
    with playwright.sync_playwright() as p:
        page = p.chromium.launch(executable_path='/usr/bin/chromium', args=['--no-sandbox']).new_page()
        page.goto((tmp_path / 'index.html').as_uri())
        page.wait_for_function('document.title == "25"', timeout=120_000)
        assert page.title() == '25'      # both answers came, in their order


def test_formulas_need_no_script():
    pytest.importorskip('latex2mathml')
    shown = with_mathml('a $a^* | x_t$ and `$HOME and $x`\n\n$$ \\frac{1}{2} $$\n')
    assert shown.count('<math') == 2 and 'display="block"' in shown and '<mfrac>' in shown and '`$HOME and $x`' in shown
    assert not set('*|_') & set(shown.replace('`$HOME and $x`', ''))       # what Markdown would take for its own


@pytest.mark.parametrize('path', sorted((ROOT / 'nbs').glob('*.ipynb')), ids=lambda p: p.stem)
def test_no_command_of_a_formula_is_left_as_text(path):
    pytest.importorskip('latex2mathml')
    text = ''.join(''.join(c['source']) for c in json.loads(path.read_text())['cells'] if c['cell_type'] == 'markdown')
    left = [m for formula in re.findall(r'<math.*?</math>', with_mathml(text), re.S) for m in re.findall(r'>([^<]*&#92;\w+)', formula)]
    assert not left


def test_a_star_in_a_docstring_is_a_star():
    assert plain('Write `a*b`/*.png and <name>.csv.') == r'Write `a*b`/\*.png and &lt;name>.csv.'
    assert r'/test/CLASS/\*.png, and' in api('ltnb.export')


def test_broken_links_are_found(tmp_path):
    (tmp_path / 'a.html').write_text('<h1 id="top">A</h1><a href="b.html#part">b</a><a href="#top"></a><a href="https://x.y/z"></a>')
    (tmp_path / 'b.html').write_text('<h2 id="part">B</h2><img src="../x.png"><a href="a.html"></a>')
    assert broken(tmp_path) == [('b.html', '../x.png')]
    (tmp_path / 'b.html').write_text('<h2>B</h2><a href="c.html"></a>')
    assert sorted(broken(tmp_path)) == [('a.html', 'b.html#part'), ('b.html', 'c.html')]
