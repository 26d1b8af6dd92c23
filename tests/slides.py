"""Slides of notebooks, by `jupyter nbconvert --to slides`: text, pictures, tables, what cells print, and the lines in which a guess
is written; as much on a slide as fits; a text stays with the picture after it. Outputs that are folded in the notebook appear at the
next key press. Nothing is loaded from a network when they are opened: reveal.js and MathJax come from two packages of PyPI, once, and lie
beside the pages."""
import re
import struct
import subprocess
import sys
import tempfile
from base64 import b64decode
from itertools import takewhile
from pathlib import Path
from zipfile import ZipFile

import nbformat
from nbconvert import SlidesExporter
from traitlets.config import Config

# package -> what of it is copied
PACKAGES = {'sphinx-revealjs==3.2.1': 'sphinx_revealjs/_static/revealjs/', 'jupyter-server-mathjax==0.2.6': 'jupyter_server_mathjax/static/'}
REVEAL, MATHJAX = PACKAGES.values()
WIDTH, HEIGHT, HEAD = 1100, 700, 75     # of a slide, and the height of a heading that is repeated, in pixels; a slide grows with the screen
# nbconvert's page without jQuery, require.js and mermaid, and with the fonts that the package has
TEMPLATE = """{% extends 'reveal/index.html.j2' %}
{% block html_head_js %}<script type="text/x-mathjax-config">
MathJax.Hub.Config({'HTML-CSS': {availableFonts: [], preferredFont: null, imageFont: null, webFont: 'STIX-Web'}})</script>
<style>.reveal .slides > section > section { max-height: HEIGHTpx; overflow-y: auto; text-align: left }
.reveal .slides :is(h1, h2, h3) { text-transform: none } .reveal .slides h3 { color: gray }
.reveal .slides pre { white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere }
.reveal .slides .jp-OutputArea table { font-size: 14px } .reveal .slides .jp-OutputArea :is(td, th) { padding: .25em .3em }</style>{% endblock %}
{% block footer_js %}<script src="{{ resources.reveal.url_prefix }}/dist/reveal.js"></script>
<script>Reveal.initialize({width: WIDTH, height: HEIGHT, controls: true, progress: true, hash: true})</script>{% endblock %}"""


def is_folded(cell): return cell.metadata.get('jupyter', {}).get('outputs_hidden', False)


def shown(cell):
    "Whether a cell is shown: no coding exercises, nothing that only prepares. Drops outputs that say there is no guess yet."
    if cell.cell_type != 'code': return '## Export -' not in cell.source
    if cell.source.startswith(('#| hide', '#| default_exp', '#| export', 'answer = ...')) or re.search(r'\bcheck(_\w+)?\(', cell.source): return False
    cell.outputs = [o for o in cell.outputs if not o.get('text', '').startswith('No guess yet')]
    return bool(cell.outputs) or cell.source.startswith('guess = ...')


def height(cell, room):
    "About how high a cell is on a slide, in pixels; its pictures are enlarged as far as there is room."
    def lines(text, width): return sum(max(1, -(-len(line) // width)) for line in text.splitlines())
    if cell.cell_type == 'markdown':
        text = re.sub(r'<details>.*?</details>', '', cell.source, flags=re.S)
        text = re.sub(r'\]\([^)]*\)', ']', re.sub(r'\$\$.*?\$\$', '\n' * 4, text, flags=re.S))
        rows, headings, titles = (len(re.findall(pattern, text, re.M)) for pattern in (r'^\|', r'^#', r'^(?:# |> )'))
        return 26*lines(re.sub(r'^\|.*\n?', '', text, flags=re.M), 98) + 30*rows + 40*headings + 80*titles + 40
    pixels, pictures = 20 + 58*cell.source.startswith('guess = ...'), []
    for o in cell.outputs:
        data = o.get('data', {})
        if 'image/png' in data: pictures.append((o.metadata, *struct.unpack('>II', b64decode(data['image/png'])[16:24])))
        else: pixels += 27*lines(data.get('text/markdown') or o.get('text') or data.get('text/plain', ''), 88) + 35
    if not pictures: return pixels
    pixels += 50*len(pictures)
    high, wide = sum(h for *_, h in pictures), max(w for _, w, _ in pictures)
    scale = min(max(1, (room - pixels) / high), 1.6, (WIDTH - 60) / wide, (HEIGHT - HEAD - pixels) / high)
    for metadata, w, h in pictures: metadata['image/png'] = dict(width=round(scale*w), height=round(scale*h))
    return pixels + scale*high


def laid_out(cells):
    "The cells of a notebook that are shown, each marked to begin a slide, to continue it, or (a folded result) to wait for a key."
    cells = [*filter(shown, takewhile(lambda c: not c.source.startswith('## For the leader'), cells))]
    title, full, waits = '', 0, False
    for cell, after in zip(cells, [*cells[1:], None]):
        heading, folded = cell.cell_type == 'markdown' and re.match(r'##? (.*)', cell.source), is_folded(cell)
        least = height(cell, 0)
        if cell.cell_type == 'markdown' and after and after.cell_type == 'code' and not is_folded(after):   # a text stays with its picture
            least += (more := height(after, 0)) * (least + more < HEIGHT - HEAD)
        kind = 'fragment' if folded else '-'
        if heading: title, full, kind = heading[1], 0, 'slide'
        elif full + least > HEIGHT or waits and not folded:      # what comes after a result must not give it away
            head, full, kind = nbformat.v4.new_markdown_cell(f'### {title}'), HEAD, '-'
            head.metadata.slideshow = dict(slide_type='slide')
            yield head
        cell.metadata.slideshow = dict(slide_type=kind)
        full, waits = full + height(cell, HEIGHT - full), folded
        if not cell.source.startswith('guess = ...'): cell.metadata.transient = dict(remove_source=cell.cell_type == 'code')
        yield cell


def slides(path):
    "The page, as HTML; what it needs lies beside it in static/."
    nb = nbformat.read(path, as_version=4)
    nb.cells = [*laid_out(nb.cells)]
    template = TEMPLATE.replace('WIDTH', str(WIDTH)).replace('HEIGHT', str(HEIGHT))
    return SlidesExporter(raw_template=template, config=Config(SlidesExporter=dict(
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
