"""The documentation as a site, `python tests/docs.py _docs`: the notebooks as they were executed, and a page for each
module, what it exports as the source has it. MkDocs puts it together (pip install '.[docs]'); links that lead nowhere are errors."""
import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

ROOT = Path(__file__).parents[1]
PARTS = {'Foundations': '0', 'Stage 1 · Mode collapse': '10', 'Stage 2 · CBDM, and what came after': '2[0-8]', 'Stage 3 · Filtering': '29|3',
         'Stage 4 · SAU': '4[01]|49', 'Runs': '4', 'Widgets': '5', 'Reading group': '6', 'Studies': '7', 'Scaling, and the command line': '8|9'}
ABOUT = ('CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md', 'tests/faults/kills.md')
# Room for a line of code and around formulas, tables of many columns, words that are not broken
STYLE = """.md-grid { max-width: 84rem }
math[display=block] { margin: 1em 0 }
.md-typeset pre > code, .jp-Notebook .highlight pre { font-size: .65rem }
.md-typeset table:not([class]) :is(th, td) { min-width: 0; padding: .5em .8em }
.md-typeset .jupyter-wrapper .jp-OutputArea-output pre { word-break: normal; overflow-wrap: anywhere }
"""
# A page that was opened as a file may start no Worker: then the search runs in a frame
WORKER = """if (location.protocol === 'file:') window.Worker = class extends EventTarget {
  constructor(url) {
    super()
    const frame = document.createElement('iframe')
    this.ready = new Promise(done => frame.onload = () => {
      frame.onload = null
      frame.contentWindow.postMessage = data => this.dispatchEvent(new MessageEvent('message', {data}))
      const script = frame.contentDocument.createElement('script')
      script.src = url
      script.onload = () => done(frame.contentWindow)
      frame.contentDocument.body.append(script)
    })
    frame.hidden = true
    document.body.append(frame)
  }
  postMessage(data) { this.ready.then(to => to.dispatchEvent(new MessageEvent('message', {data}))) }
}
"""


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
        c['source'] = re.sub(r'^#\| .*\n', '', text).splitlines(True)
        for data in (output.get('data', {}) for output in c.get('outputs', [])):    # a cell may write text with figures in it
            if 'text/markdown' in data: data['text/markdown'] = linked(with_mathml(''.join(data['text/markdown'])))
        kept.append(c)
    return json.dumps(dict(nb, cells=kept), ensure_ascii=False)


def linked(text, api='api/'): # links to notebooks and pages as the site has them, and from the names of modules to their pages
    text = re.sub(r'\]\((?:nbs/)?(\w+)\.ipynb(#[^)]*)?\)', r'](\1.html\2)', text)
    text = re.sub(r'\]\((?:\.\./)?nbs/images/', '](images/', text)
    text = re.sub(r'\]\((?:\.\./)?(?:tests/faults/)?(CONTRIBUTING|CHANGELOG|SECURITY|kills)\.md\)', r'](\1.html)', text)
    text = re.sub(r'\[([^\]]+)\]\(pyproject.toml\)', r'`\1`', text)
    def to_page(m):
        page = m['name'] and page_of(m['name'])
        return f'[`{m["name"]}`]({api}{page})' if page else m[0]
    return re.sub(r'```.*?```|(?<!\[)`(?P<name>ltnb(?:\.\w+)+)`', to_page, text, flags=re.S)


def page_of(name): # of a module, or of what it exports; None for any other name
    parts, pages = name.split('.'), [*modules()]
    for n in range(len(parts), 1, -1):
        if (module := '.'.join(parts[:n])) in pages: return f'{module}.html' + (f'#{".".join(parts[n:])}' if parts[n:] else '')


def with_mathml(text): # formulas as browsers show them without a script
    def shown(m):
        if m['code']: return m[0]
        from latex2mathml.converter import convert
        tex = (m['block'] or m['inline']).replace(r'\arg', r'\operatorname{arg}')    # which the converter does not know
        formula = convert(tex, display='block' if m['block'] else 'inline')
        return re.sub(r'[*_|`\\]', lambda c: f'&#{ord(c[0])};', formula)    # nothing in it is Markdown
    return re.sub(r'(?P<code>```.*?```|`[^`]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$', shown, text, flags=re.S)


def title(path): return ''.join(json.loads(path.read_text(encoding='utf-8'))['cells'][0]['source']).splitlines()[0].lstrip('# ')


SHOWN_DECORATORS = 'property', 'cached_property', 'classmethod', 'staticmethod', 'contextmanager', 'dataclass'


def api(name):
    "The page of a module: what it exports, each as its source has it, with its docstring and a link to the cell; methods after their class."
    module = importlib.import_module(name)
    source = Path(module.__file__).read_text(encoding='utf-8')
    cells = [(source[:m.start()].count('\n') + 1, f'../{m[1]}.html#cell-id={m[2]}') for m in re.finditer(r'^# %% \S*?(\w+)\.ipynb #(\w+)$', source, re.M)]
    place = ROOT / 'nbs' / cells[0][1].split('/')[1].replace('.html', '.ipynb').split('#')[0]
    shown = [f'# {name}\n\n{inspect.getdoc(module)}\n\nNotebook: [{title(place)}](../{place.stem}.html)']

    def entry(level, symbol, line, code, doc):
        cell = [link for start, link in cells if start < line][-1]
        said = f'{plain(linked(doc, ""))} ' if doc else ''
        shown.append(f'{level} {symbol} {{#{symbol}}}\n\n```python\n{code}\n```\n\n{said}[Source]({cell}){{data-search-exclude}}')

    for symbol in module.__all__:
        x = inspect.unwrap(getattr(module, symbol)) if callable(getattr(module, symbol)) else getattr(module, symbol)
        if inspect.isclass(x) or inspect.isfunction(x): entry('##', symbol, inspect.getsourcelines(x)[1], head(x), x.__doc__ and inspect.getdoc(x))
        else: entry('##', symbol, *constant(source, symbol), names(x))
        for k, f in vars(x).items() if inspect.isclass(x) else ():
            f = inspect.unwrap(getattr(f, '__func__', None) or getattr(f, 'fget', None) or getattr(f, 'func', None) or f)
            own = inspect.isfunction(f) and k not in getattr(x, '__dataclass_fields__', ())
            if own and f.__doc__ and (k == '__call__' or not k.startswith('_')):
                entry('###', f'{symbol}.{k}', inspect.getsourcelines(f)[1], head(f), inspect.getdoc(f))
    return '\n\n'.join(shown) + '\n'


def head(x):
    "A function without what it does, as its source has it; a class with its fields, its methods of one line, and what makes one."
    lines = textwrap.dedent(inspect.getsource(x)).splitlines()
    node = ast.parse('\n'.join(lines)).body[0]
    end = lambda part: max(part.lineno, part.body[0].lineno - 1)
    code = [f'@{ast.unparse(d)}' for d in node.decorator_list if ast.unparse(d).split('(')[0] in SHOWN_DECORATORS] + lines[node.lineno - 1:end(node)]
    for part in node.body if inspect.isclass(x) else ():
        first, name = lines[part.lineno - 1].strip(), getattr(part, 'name', '')
        if isinstance(part, (ast.Assign, ast.AnnAssign)) and not first.startswith('_'): code += lines[part.lineno - 1:part.end_lineno]
        elif name in ('__init__', '__call__') or name and not name.startswith('_') and part.lineno == part.end_lineno:
            code += lines[min([part.lineno, *(d.lineno for d in part.decorator_list)]) - 1:end(part)]
    return '\n'.join(code)


def constant(source, name): # line and text of what a module assigns to a name, with the comments above it and behind it
    lines = source.splitlines()
    node = next(n for n in ast.parse(source).body if isinstance(n, (ast.Assign, ast.AnnAssign))
                and name in [t.id for target in getattr(n, 'targets', [getattr(n, 'target', None)]) for t in ast.walk(target) if isinstance(t, ast.Name)])
    first = node.lineno - 1
    while lines[first - 1].startswith('# ') and not lines[first - 1].startswith('# %%'): first -= 1
    return first + 1, '\n'.join(lines[first:node.end_lineno])


def names(x): # what the keys of a table are
    return f'Keys: {", ".join(f"`{k}`" for k in x if k)}' if isinstance(x, dict) and all(isinstance(k, str) for k in x) else ''


def plain(text): # what a docstring says, nothing in it is Markdown but code and links
    return re.sub(r'`[^`]*`|[*<]', lambda m: {'*': r'\*', '<': '&lt;'}.get(m[0], m[0]), text)


def graph_folded(text): # the modules by what they import, as nothing draws the graph
    def shown(m):
        imports = {}
        for a, b in re.findall(r'(\w+) --> (\w+)', m[1]): imports.setdefault(a, []).append(b)
        return '??? quote "The graph, as text"\n\n' + ''.join(f'        {a} → {", ".join(to)}\n' for a, to in imports.items())
    return re.sub(r'```mermaid\n(.*?)```', shown, text, flags=re.S)


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
    (source / 'index.md').write_text(linked(graph_folded((ROOT / 'README.md').read_text(encoding='utf-8'))), encoding='utf-8')
    first_line = lambda path: path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')
    about = [ROOT / name for name in ABOUT if (ROOT / name).exists()]
    for p in about: (source / p.name).write_text(linked(p.read_text(encoding='utf-8')), encoding='utf-8')
    for file, text in {'style.css': STYLE, 'iframe-worker.js': WORKER}.items(): (source / file).write_text(text, encoding='utf-8')
    for name in modules(): (source / f'api/{name}.md').write_text(api(name), encoding='utf-8')
    left, nav = notebooks, [{'Home': 'index.md'}]
    for part, begins in PARTS.items():
        mine = [p for p in left if re.match(begins, p.name)]
        left = [p for p in left if p not in mine]
        nav.append({part: [{title(p): p.name} for p in mine]})
    assert not left, left
    nav += [{'Modules': [{name: f'api/{name}.md'} for name in modules()]}, {'About': [{p.stem.capitalize() if p.stem.isupper() else first_line(p): p.name} for p in about]}]
    config = dict(site_name='ltnb', docs_dir=str(source), use_directory_urls=False, nav=nav, extra_css=['style.css'],
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
