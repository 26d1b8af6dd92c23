"""The documentation as a site, `python tests/docs.py _docs`: the notebooks as they were executed, and a page for each
module (docs_api.py). MkDocs puts it together (pip install '.[docs]'); links that lead nowhere are errors."""
import ast
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from docs_api import ROOT, api, linked, modules, title

PARTS = {'Foundations': '0', 'Stage 1 · Mode collapse': '10', 'Stage 2 · CBDM, and what came after': '2[0-8]', 'Stage 3 · Filtering': '29|3',
         'Stage 4 · SAU': '4[01]|49', 'Runs': '4', 'Widgets': '5', 'Reading group': '6', 'Studies': '7', 'Scaling, and the command line': '8|9'}
ABOUT = ('CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md', 'tests/faults/kills.md')


def notebook(path):
    "A notebook without the cells that only nbdev needs, its links to other pages, and one to that of its module."
    nb = json.loads(path.read_text(encoding='utf-8'))
    kept = []
    for c in nb['cells']:
        text = ''.join(c['source'])
        if text.strip() == '## Export -': break
        if exports := re.match(r'#\| default_exp (\S+)', text): kept[0]['source'] += [f'\n\n{linked(f"Module: `ltnb.{exports[1]}`")}']
        if text.startswith(('#| hide', '#| default_exp')): continue
        if c['cell_type'] == 'markdown': text = linked(with_mathml(text))
        c['metadata']['tags'] = [f'{part}-hidden' for part, hidden in (('output', 'outputs_hidden'), ('input', 'source_hidden'))
                                 if c['metadata'].get('jupyter', {}).get(hidden)]      # which fold.js folds
        c['source'] = re.sub(r'^#\| .*\n', '', text).splitlines(True)
        for data in (output.get('data', {}) for output in c.get('outputs', [])):    # Markdown that a cell displays
            if 'text/markdown' in data: data['text/markdown'] = linked(with_mathml(''.join(data['text/markdown'])))
        kept.append(c)
    return json.dumps(dict(nb, cells=kept), ensure_ascii=False)


def with_mathml(text): # formulas as browsers show them without a script
    def shown(m):
        if m['code']: return m[0]
        from latex2mathml.converter import convert
        tex = (m['block'] or m['inline']).replace(r'\arg', r'\operatorname{arg}')    # which the converter does not know
        formula = convert(tex, display='block' if m['block'] else 'inline')
        return re.sub(r'[*_|`\\]', lambda c: f'&#{ord(c[0])};', formula)    # nothing in it is Markdown
    return re.sub(r'(?P<code>```.*?```|`[^`]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$', shown, text, flags=re.S)


def docstring(path): # of a script, with a line above it
    return f'\n{ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))}\n' if path.exists() else ''


def graph_folded(text): # each module with its imports as text, as the site does not draw mermaid graphs
    def shown(m):
        imports = {}
        for a, b in re.findall(r'(\w+) --> (\w+)', m[1]): imports.setdefault(a, []).append(b)
        return '??? quote "The graph, as text"\n\n' + ''.join(f'        {a} → {", ".join(to)}\n' for a, to in imports.items())
    return re.sub(r'```mermaid\n(.*?)```', shown, text, flags=re.S)


def write(source):
    "All pages, and mkdocs.yml beside them."
    (source / 'api').mkdir(parents=True, exist_ok=True)
    (source / 'images').mkdir(exist_ok=True)
    for p in (ROOT / 'nbs/images').glob('*'): (source / 'images' / p.name).write_bytes(p.read_bytes())
    for p in (ROOT / 'tests/site').iterdir(): (source / p.name).write_bytes(p.read_bytes())
    notebooks = [p for p in sorted((ROOT / 'nbs').glob('*.ipynb')) if p.stem != 'index']
    for p in notebooks: (source / p.name).write_text(notebook(p), encoding='utf-8')
    (source / 'index.md').write_text(linked(graph_folded((ROOT / 'README.md').read_text(encoding='utf-8'))), encoding='utf-8')
    about = [ROOT / name for name in ABOUT if (ROOT / name).exists()]
    for p in about:
        said = linked(p.read_text(encoding='utf-8')) + docstring(p.parent / '__main__.py')     # what the kills are, and what is counted
        (source / p.name).write_text(said, encoding='utf-8')
    for name in modules(): (source / f'api/{name}.md').write_text(api(name), encoding='utf-8')
    left, nav = notebooks, [{'Home': 'index.md'}]
    for part, begins in PARTS.items():
        mine = [p for p in left if re.match(begins, p.name)]
        left = [p for p in left if p not in mine]
        nav.append({part: [{title(p): p.name} for p in mine]})
    assert not left, left
    headline = lambda path: path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')
    nav += [{'Modules': [{name: f'api/{name}.md'} for name in modules()]}, {'About': [{headline(p): p.name} for p in about]}]
    config = dict(site_name='ltnb', docs_dir=str(source), use_directory_urls=False, nav=nav, extra_css=['style.css'], extra_javascript=['fold.js'],
                  theme=dict(name='material', font=False, features=['navigation.footer', 'toc.follow', 'search.highlight']),
                  extra=dict(generator=False, polyfills=['iframe-worker.js']),
                  plugins=['search', 'offline', {'mkdocs-jupyter': dict(execute=False, include_source=False, ignore_h1_titles=True, no_prompt=True)}],
                  markdown_extensions=['tables', 'fenced_code', 'attr_list', 'pymdownx.superfences', 'pymdownx.details', {'toc': dict(toc_depth=3)}],
                  validation=dict(links=dict(not_found='ignore', unrecognized_links='ignore')))
    (source.parent / 'mkdocs.yml').write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding='utf-8')


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.ids = [], set()
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs.get('id'), attrs.get('name')}
        self.links += [attrs[k] for k in ('href', 'src') if attrs.get(k)]


def broken(site):
    "Links within the site that lead nowhere, as (page, link); anchors, too."
    pages = {}
    for path in site.rglob('*.html'):
        pages[path.resolve()] = page = _Page()
        page.feed(path.read_text(encoding='utf-8'))
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            to = urlsplit(link)
            if to.scheme or to.netloc or path.name == '404.html': continue
            target = (path.parent / unquote(to.path)).resolve() if to.path else path
            if target.is_dir(): target /= 'index.html'
            anchored = not to.fragment or target not in pages or to.fragment.startswith('__') or unquote(to.fragment) in pages[target].ids
            if not (target.exists() and anchored): wrong.append((path.name, link))
    return wrong


if __name__ == '__main__':
    out = Path(sys.argv[1]).resolve()
    write(out / 'source')
    subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '--clean', '-f', out / 'mkdocs.yml', '-d', out / 'site'],
                   check=True, cwd=out, env=os.environ | dict(NO_MKDOCS_2_WARNING='1'))
    if wrong := broken(out / 'site'): sys.exit('\n'.join(f'{page}: {link} leads nowhere' for page, link in wrong))
    print(f'{out}/site/index.html: {len(list((out / "site").rglob("*.html")))} pages, no broken link')
