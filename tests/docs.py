"""The documentation as a site, `python tests/docs.py _docs`: the notebooks as they were executed, and a page for each
module, its functions shown by nbdev. MkDocs puts it together (pip install '.[docs]'); links that lead nowhere are errors."""
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).parents[1]
PARTS = {'Foundations': '0', 'Stage 1 · Mode collapse': '10', 'Stage 2 · CBDM, and what came after': '2[0-8]', 'Stage 3 · Filtering': '29|3',
         'Stage 4 · SAU': '4[01]|49', 'Runs': '4', 'Widgets': '5', 'Reading group': '6', 'Studies': '7', 'Scaling, and the command line': '8|9'}
ABOUT = ('CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md', 'tests/faults/kills.md')
STYLE = '.md-grid { max-width: 84rem } math[display=block] { margin: 1em 0 }\n'     # room for a line of code, and around formulas


def notebook(path):
    "A notebook without the cells that only nbdev needs, and its links to other pages."
    nb = json.loads(path.read_text(encoding='utf-8'))
    kept = []
    for c in nb['cells']:
        text = ''.join(c['source'])
        if text.strip() == '## Export -': break
        if text.startswith(('#| hide', '#| default_exp')): continue
        if c['cell_type'] == 'markdown': text = with_mathml(text)
        c['source'] = re.sub(r'^#\| .*\n', '', linked(text)).splitlines(True)
        for data in (output.get('data', {}) for output in c.get('outputs', [])):    # a cell may write text with figures in it
            if 'text/markdown' in data: data['text/markdown'] = linked(with_mathml(''.join(data['text/markdown'])))
        kept.append(c)
    return json.dumps(dict(nb, cells=kept), ensure_ascii=False)


def linked(text): # links to notebooks and pages as the site has them
    text = re.sub(r'\]\((?:nbs/)?(\w+)\.ipynb(#[^)]*)?\)', r'](\1.html\2)', text)
    text = re.sub(r'\]\((?:\.\./)?nbs/images/', '](images/', text)
    return re.sub(r'\]\((?:\.\./)?(?:tests/faults/)?(CONTRIBUTING|CHANGELOG|SECURITY|kills)\.md\)', r'](\1.html)', text)


def with_mathml(text): # formulas as browsers show them without a script
    def shown(m):
        if m['code']: return m[0]
        from latex2mathml.converter import convert
        formula = convert(m['block'] or m['inline'], display='block' if m['block'] else 'inline')
        return re.sub(r'[*_|`\\]', lambda c: f'&#{ord(c[0])};', formula)    # nothing in it is Markdown
    return re.sub(r'(?P<code>```.*?```|`[^`]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$', shown, text, flags=re.S)


def title(path): return ''.join(json.loads(path.read_text(encoding='utf-8'))['cells'][0]['source']).splitlines()[0].lstrip('# ')


def api(name):
    "The page of a module: what it exports, by nbdev's show_doc, methods after their class."
    from nbdev.showdoc import BasicMarkdownRenderer, show_doc
    module = importlib.import_module(name)
    shown = [f'# {name}\n\n{inspect.getdoc(module) or ""}']
    for symbol in getattr(module, '__all__', []):
        x = getattr(module, symbol)
        if inspect.isclass(x):
            own = [f for k, f in vars(x).items() if inspect.isfunction(f) and not k.startswith('_') and f.__doc__]
            parts = [x, *own]
        elif inspect.isfunction(x): parts = [x]
        else:
            value = ', '.join(f'`{k}`' for k in x) if isinstance(x, (dict, tuple)) else f'`{x!r}`'
            shown.append(f'### {symbol}\n\nA {type(x).__name__}: {value}')
            continue
        shown += [plain(re.sub(r'^-+\n', '', show_doc(p, renderer=BasicMarkdownRenderer)._repr_markdown_().strip())) for p in parts]
    return '\n\n'.join(shown) + '\n'


def plain(text): # docstrings upright: show_doc sets them in italics, which a * within would end
    star = lambda m: m[0] if m[0] != '*' else r'\*'
    return re.sub(r'(?<=```\n\n)\*(.+)\*$', lambda m: re.sub(r'`[^`]*`|\*', star, m[1]), text, flags=re.S)


def modules():
    "The modules that notebooks export, the widgets' among them."
    for path in sorted((ROOT / 'ltnb').rglob('*.py')):
        if not path.name.startswith('_'): yield '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def write(source):
    "All pages, and mkdocs.yml beside them."
    (source / 'api').mkdir(parents=True, exist_ok=True)
    (source / 'images').mkdir(exist_ok=True)
    for p in (ROOT / 'nbs/images').glob('*'): (source / 'images' / p.name).write_bytes(p.read_bytes())
    notebooks = [p for p in sorted((ROOT / 'nbs').glob('*.ipynb')) if p.stem != 'index']
    for p in notebooks: (source / p.name).write_text(notebook(p), encoding='utf-8')
    (source / 'index.md').write_text(linked((ROOT / 'README.md').read_text(encoding='utf-8')), encoding='utf-8')
    about = [ROOT / name for name in ABOUT if (ROOT / name).exists()]
    for p in about: (source / p.name).write_text(linked(p.read_text(encoding='utf-8')).replace('(pyproject.toml)', ''), encoding='utf-8')
    (source / 'style.css').write_text(STYLE, encoding='utf-8')
    for name in modules(): (source / f'api/{name}.md').write_text(api(name), encoding='utf-8')
    left, nav = notebooks, [{'Home': 'index.md'}]
    for part, begins in PARTS.items():
        mine = [p for p in left if re.match(begins, p.name)]
        left = [p for p in left if p not in mine]
        nav.append({part: [{title(p): p.name} for p in mine]})
    assert not left, left
    nav += [{'Modules': [{name: f'api/{name}.md'} for name in modules()]}, {'About': [{p.stem.capitalize(): p.name} for p in about]}]
    config = dict(site_name='ltnb', docs_dir=str(source), use_directory_urls=False, nav=nav, extra_css=['style.css'],
                  theme=dict(name='material', font=False, features=['navigation.indexes', 'toc.follow', 'search.highlight']),
                  plugins=['search', {'mkdocs-jupyter': dict(execute=False, include_source=False, ignore_h1_titles=True, no_prompt=True)}],
                  markdown_extensions=['tables', 'fenced_code', 'pymdownx.superfences', {'toc': dict(toc_depth=3)}],
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
            there = target.exists() and (not to.fragment or target not in pages or to.fragment.startswith('__') or unquote(to.fragment) in pages[target].ids)
            if not there: wrong.append((path.name, link))
    return wrong


if __name__ == '__main__':
    out = Path(sys.argv[1]).resolve()
    write(out / 'source')
    subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '--clean', '-f', out / 'mkdocs.yml', '-d', out / 'site'],
                   check=True, cwd=out, env=os.environ | dict(NO_MKDOCS_2_WARNING='1'))
    if wrong := broken(out / 'site'): sys.exit('\n'.join(f'{page}: {link} leads nowhere' for page, link in wrong))
    print(f'{out}/site/index.html: {len(list((out / "site").rglob("*.html")))} pages, no broken link')
