"""Slides of notebooks, by `jupyter nbconvert --to slides`: a heading begins a slide, hidden cells are left out, code is
shown where it has something to show."""
import sys
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from traitlets.config import Config


def slides(path, reveal='https://unpkg.com/reveal.js@4.0.2'):
    """The page, as HTML. reveal.js comes from `reveal` when the slides are opened; require.js, jQuery and MathJax from
    cdnjs.cloudflare.com."""
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        hidden = cell.source.startswith(('#| hide', '#| default_exp', '#| export')) or '## Export -' in cell.source
        cell.metadata.slideshow = dict(slide_type='skip' if hidden else 'slide'
                                       if cell.source.startswith(('# ', '## ')) and cell.cell_type
                                       == 'markdown' else '-')
    return SlidesExporter(config=Config(SlidesExporter=dict(reveal_url_prefix=reveal, reveal_scroll=True,
                                                            exclude_input_prompt=True,
                                                            exclude_output_prompt=True))).from_notebook_node(nb)[0]


if __name__ == '__main__':
    out, reveal, *paths = sys.argv[1:]
    Path(out).mkdir(parents=True, exist_ok=True)
    for path in paths:
        target = Path(out) / f'{Path(path).stem}.html'
        target.write_text(slides(path, reveal), encoding='utf-8')
        print(target)
