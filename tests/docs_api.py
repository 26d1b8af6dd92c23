"""The pages of modules: each export as its source has it, without what it does, its docstring, and a link to the cell of the
notebook that defines it. And the links of all pages of the site."""
import ast
import importlib
import inspect
import json
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
DECORATORS = 'property', 'cached_property', 'classmethod', 'staticmethod', 'contextmanager', 'dataclass'     # those that are shown


def title(path): return ''.join(json.loads(path.read_text(encoding='utf-8'))['cells'][0]['source']).splitlines()[0].lstrip('# ')


def modules():
    "The modules that notebooks export, the widgets' among them."
    for path in sorted((ROOT / 'ltnb').rglob('*.py')):
        if not path.name.startswith('_'): yield '.'.join(path.relative_to(ROOT).with_suffix('').parts)


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


def api(name):
    "The page of a module, methods after their class."
    module = importlib.import_module(name)
    source = Path(module.__file__).read_text(encoding='utf-8')
    marks = [(source[:m.start()].count('\n') + 1, *m.groups()) for m in re.finditer(r'^# %% \S*?(\w+)\.ipynb #(\w+)$', source, re.M)]
    stem = marks[0][1]
    shown = [f'# {name}\n\n{inspect.getdoc(module)}\n\nNotebook: [{title(ROOT / f"nbs/{stem}.ipynb")}](../{stem}.html)']

    def add(level, symbol, line, code, said):
        cell = [id for start, _, id in marks if start < line][-1]
        shown.append(f'{level} {symbol} {{#{symbol}}}\n\n```python\n{code}\n```\n\n{plain(linked(said or "", ""))} '
                     f'[Source](../{stem}.html#cell-id={cell}){{data-search-exclude}}')

    for symbol in module.__all__:
        x = inspect.unwrap(getattr(module, symbol))
        if inspect.isclass(x) or inspect.isfunction(x): add('##', symbol, inspect.getsourcelines(x)[1], head(x), said_of(x))
        else: add('##', symbol, *constant(source, symbol), keys(x))
        for k, f in methods(x) if inspect.isclass(x) else ():
            add('###', f'{symbol}.{k}', inspect.getsourcelines(f)[1], head(f), inspect.getdoc(f))
    return '\n\n'.join(shown) + '\n'


def said_of(x): # by the docstring of a function; of a class also what a call of what it makes does
    call = vars(x).get('__call__') if inspect.isclass(x) else None
    return '\n\nCalled: '.join(inspect.getdoc(f) for f in (x, call) if f and f.__doc__)


def methods(cls):
    "What a class defines with a docstring, properties among it."
    for k, f in vars(cls).items():
        f = inspect.unwrap(getattr(f, '__func__', None) or getattr(f, 'fget', None) or getattr(f, 'func', None) or f)
        field = k in getattr(cls, '__dataclass_fields__', ())      # whose default may be a function
        if inspect.isfunction(f) and f.__doc__ and not field and not k.startswith('_'): yield k, f


def head(x):
    "A function up to its docstring; of a class the fields, the methods of one line, and how it is made and called."
    lines = textwrap.dedent(inspect.getsource(x)).splitlines()
    node = ast.parse('\n'.join(lines)).body[0]
    def until_body(part): return lines[part.lineno - 1:max(part.lineno, part.body[0].lineno - 1)]
    code = [f'@{d}' for d in map(ast.unparse, node.decorator_list) if d.split('(')[0] in DECORATORS] + until_body(node)
    for part in node.body if inspect.isclass(x) else ():
        name = getattr(part, 'name', '')
        if isinstance(part, (ast.Assign, ast.AnnAssign)):
            if not lines[part.lineno - 1].lstrip().startswith('_'): code += lines[part.lineno - 1:part.end_lineno]
        elif name in ('__init__', '__call__') or name and not name.startswith('_') and part.lineno == part.end_lineno:
            code += [f'{" " * part.col_offset}@{ast.unparse(d)}' for d in part.decorator_list] + until_body(part)
    return '\n'.join(map(fitted, code))


def fitted(line, width=92):
    "A line of code whose comment goes on below where it is too long."
    code, mark, said = f' {line}'.partition(' # ')
    code = code[1:]
    if len(line) <= width or not mark: return line
    if len(code) > .6 * width: # nothing fits beside it
        indent = ' ' * (len(line) - len(line.lstrip()) + 4) + '# '
        return '\n'.join([code.rstrip(), *textwrap.wrap(said, width, initial_indent=indent, subsequent_indent=indent)])
    first = f'{code} # ' if code else '# '
    return textwrap.fill(said, width, initial_indent=first, subsequent_indent=' ' * (len(first) - 2) + '# ')


def constant(source, name):
    "Line and text of what a module assigns to a name, with the comments above it and behind it."
    lines = source.splitlines()
    assigned = lambda n: n.targets if isinstance(n, ast.Assign) else [n.target] if isinstance(n, ast.AnnAssign) else []
    node = next(n for n in ast.parse(source).body if name in [t.id for to in assigned(n) for t in ast.walk(to) if isinstance(t, ast.Name)])
    first = node.lineno
    while lines[first - 2].startswith('# ') and not lines[first - 2].startswith('# %%'): first -= 1
    return first, '\n'.join(map(fitted, lines[first - 1:node.end_lineno]))


def keys(x): # of a table of names
    return f'Keys: {", ".join(f"`{k}`" for k in x if k)}' if isinstance(x, dict) and all(isinstance(k, str) for k in x) else ''


def plain(text): # nothing in a docstring is Markdown but code and links
    return re.sub(r'`[^`]*`|[*<]', lambda m: {'*': r'\*', '<': '&lt;'}.get(m[0], m[0]), text)
