"""Slides of notebooks, by `jupyter nbconvert --to slides`: a heading begins a slide, hidden cells are left out, code is shown
where it has something to show, and outputs that are folded in the notebook come with the next key. Nothing is loaded from a
network when they are opened: reveal.js and MathJax come from two packages of PyPI, once, and lie beside the pages."""
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

import nbformat
from nbconvert import SlidesExporter
from traitlets.config import Config

# package -> what of it is copied
PACKAGES = {'sphinx-revealjs==3.2.1': 'sphinx_revealjs/_static/revealjs/', 'jupyter-server-mathjax==0.2.6': 'jupyter_server_mathjax/static/'}
REVEAL, MATHJAX = PACKAGES.values()
# nbconvert's page without jQuery, require.js and mermaid, and with the fonts that the package has
TEMPLATE = """{% extends 'reveal/index.html.j2' %}
{% block html_head_js %}<script type="text/x-mathjax-config">
MathJax.Hub.Config({'HTML-CSS': {availableFonts: [], preferredFont: null, imageFont: null, webFont: 'STIX-Web'}})</script>
<style>.reveal .slides > section > section { max-height: 700px; overflow-y: auto; text-align: left }</style>{% endblock %}
{% block footer_js %}<script src="{{ resources.reveal.url_prefix }}/dist/reveal.js"></script>
<script>Reveal.initialize({width: 1100, height: 700, controls: true, progress: true, hash: true})</script>{% endblock %}"""


def slides(path):
    "The page, as HTML; what it needs lies beside it in static/."
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        hidden = cell.source.startswith(('#| hide', '#| default_exp', '#| export')) or '## Export -' in cell.source
        heading = cell.cell_type == 'markdown' and cell.source.startswith(('# ', '## '))
        folded = cell.metadata.get('jupyter', {}).get('outputs_hidden')
        if cell.metadata.get('jupyter', {}).get('source_hidden'): cell.transient = dict(remove_source=True)
        cell.metadata.slideshow = dict(slide_type='skip' if hidden else 'slide' if heading else 'fragment' if folded else '-')
    return SlidesExporter(raw_template=TEMPLATE, config=Config(SlidesExporter=dict(
        reveal_url_prefix=f'static/{REVEAL}'.rstrip('/'), reveal_theme='white', exclude_input_prompt=True, exclude_output_prompt=True,
        mathjax_url=f'static/{MATHJAX}MathJax.js?config=TeX-AMS-MML_HTMLorMML-full,Safe'))).from_notebook_node(nb)[0]


def fetch(out):
    "Put reveal.js and MathJax into the folder `out`."
    with tempfile.TemporaryDirectory() as wheels:
        subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps',
                        '--dest', wheels, *PACKAGES], check=True)
        for wheel in Path(wheels).glob('*.whl'):
            with ZipFile(wheel) as z: z.extractall(out, [n for n in z.namelist() if n.startswith((REVEAL, MATHJAX))])


if __name__ == '__main__':
    out, *paths = sys.argv[1:]
    if not all((Path(out) / 'static' / part).exists() for part in (REVEAL, MATHJAX)): fetch(Path(out) / 'static')
    for path in paths:
        target = Path(out) / f'{Path(path).stem}.html'
        target.write_text(slides(path), encoding='utf-8')
        print(target)
