"Notebooks, package and README say the same. Each check is also seen to fail on a tree that is out of sync."
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from readme import pictures, readme

from ltnb.report import accuracy_table, claim, claims_table, filter_table, generator_table, with_interval

BIN = os.path.dirname(sys.executable)
HAND_MADE = {'__init__.py', '__main__.py'}      # all other modules are exported from notebooks


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for d in ('nbs', 'ltnb') for p in sorted((root / d).rglob('*'))
            if p.suffix in ('.py', '.ipynb', '.js', '.css') and '.ipynb_checkpoints' not in p.parts}


@pytest.fixture
def copy(tmp_path):
    for name in ('nbs', 'ltnb'):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__',
                                                                                    '.ipynb_checkpoints'))
    for name in ('settings.ini', 'pyproject.toml', 'README.md'): shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def out_of_sync(root):
    "Files that exporting and cleaning afresh would change."
    before = files(root)
    for p in (root / 'ltnb').rglob('*.py'):
        if p.name not in HAND_MADE: p.unlink()
    # with it, nbdev_export does nothing and says nothing
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    for command in ('nbdev_clean', 'nbdev_export'):
        subprocess.run([f'{BIN}/{command}'], cwd=root, env=env, check=True, capture_output=True)
    after = files(root)
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


@pytest.mark.slow
def test_package_and_notebooks_are_in_sync(copy):
    assert out_of_sync(copy) == []


def edit_cell(path, find, put):
    nb = json.loads(path.read_text())
    cell = next(c for c in nb['cells'] if any(find in line for line in c['source']))
    cell['source'] = [line.replace(find, put) for line in cell['source']]
    path.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n')


@pytest.mark.slow
def test_being_out_of_sync_is_seen(copy):
    edited, orphan = copy / 'ltnb/collapse.py', copy / 'ltnb/orphan.py'
    edited.write_text(edited.read_text() + '# by hand\n')
    orphan.write_text('# no notebook exports this\n')
    edit_cell(copy / 'nbs/01_data.ipynb', 'def long_tail_counts', 'def short_tail_counts')     # a stale export
    unclean(copy / 'nbs/00_core.ipynb')
    assert {'ltnb/collapse.py', 'ltnb/orphan.py', 'ltnb/data.py', 'nbs/00_core.ipynb'} <= {*(found := out_of_sync(copy))} and len(found) < 8


def unclean(path):
    nb = json.loads(path.read_text())
    next(c for c in nb['cells'] if c['cell_type'] == 'code')['execution_count'] = 7
    path.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n')


def test_readme_is_made_from_the_index(copy):
    assert (ROOT / 'README.md').read_text() == readme(copy)
    edit_cell(copy / 'nbs/index.ipynb', 'make run', 'make walk')
    assert (ROOT / 'README.md').read_text() != readme(copy)


def test_the_picture_of_the_readme_is_that_of_a_notebook():
    found = pictures(ROOT)
    assert [p.name for p in found] == ['rarest.png']
    for path, png in found.items(): assert path.read_bytes() == png and f'nbs/images/{path.name}' in (ROOT / 'README.md').read_text()


def test_figures_in_the_readme_and_in_notebooks_72_and_76_are_the_recorded_ones():
    fashion, digits, cifar, whole = (json.loads((ROOT / f'nbs/recorded/{name}.json').read_text()) for name in ('fashion/study', 'digits/story', 'cifar10-lt', 'fashion_mnist-lt'))
    text, tables = (ROOT / 'README.md').read_text(), (ROOT / 'nbs/72_report.ipynb').read_text()
    def lines(table): return table._repr_markdown_().splitlines()[2:]
    seen = [line for line in lines(claims_table(fashion, digits, cifar, whole)) if line in text]
    assert len(seen) == 8
    for table in [of(study) for study in (fashion, digits, cifar, whole) for of in (generator_table, accuracy_table)]:
        for line in lines(table): assert line in tables, line
    full = (ROOT / 'nbs/76_full_size.ipynb').read_text()
    for table in [of(study) for study in (cifar, whole) for of in (accuracy_table, filter_table)]:
        for line in lines(table): assert line in full, line
    fashion['classifiers']['sau']['few']['mean'] += 1
    changed = next(line for line in lines(accuracy_table(fashion)) if line.startswith('| sau |'))
    assert changed not in tables


def test_the_outputs_of_stages_3_and_4_are_of_the_recorded_study():
    study = json.loads((ROOT / 'nbs/recorded/fashion/study.json').read_text())
    stage = {n: (ROOT / f'nbs/{n}.ipynb').read_text() for n in ('30_filtering', '40_sau')}
    claims = [row for row in claims_table(study) if 'SAU' in row['claim']]
    def difference(row, base): return f'{row} less {base}: ' + ', '.join(f'{g} {with_interval(claim(study, row, base, group=g))}' for g in ('few', 'medium'))
    assert len(claims) == 5
    for row in claims: assert f"| {row['claim']} | {row['fashion']} |" in stage['40_sau']
    for pair in ('ce+cbdm', 'ce'), ('ce+cbdm+filter', 'ce+cbdm'), ('ce+cbdm+filter', 'ce'):
        assert difference(*pair) in stage['30_filtering']
    study['classifiers']['ce']['few']['values'][0] += 9
    assert difference('ce+cbdm+filter', 'ce') not in stage['30_filtering']


def test_links_in_the_readme_lead_somewhere():
    links = re.findall(r'\]\(([^)#]+)', (ROOT / 'README.md').read_text())
    assert links and [l for l in links if '://' not in l and not (ROOT / l).exists()] == []


def test_outputs_in_the_notebooks():
    for path in sorted((ROOT / 'nbs').glob('*.ipynb')):
        nb = json.loads(path.read_text())
        outputs = [o for c in nb['cells'] if c['cell_type'] == 'code' for o in c['outputs']]
        assert 'widgets' not in nb['metadata'], f'{path.name}: widget state'
        assert nb['metadata']['kernelspec']['name'] == 'python3', path.name
        assert not [o for o in outputs if o['output_type'] == 'error'], f'{path.name}: an error among the outputs'
        assert path.stat().st_size < 400_000, f'{path.name} is {path.stat().st_size // 1000} kB'
        assert not [o for o in outputs if 'application/vnd.jupyter.widget-view+json' in o.get('data',
            {})], f'{path.name}: a widget'
        if path.name[:2] in ('10', '20', '30', '40') or '_widgets_' in path.name:
            assert any('image/png' in o.get('data', {}) for o in outputs), f'{path.name} shows no picture'


def test_the_prose_of_the_readme_is_computed_from_the_records(monkeypatch):
    monkeypatch.chdir(ROOT / 'nbs')
    monkeypatch.setattr(sys, 'path', [str(ROOT), *sys.path])
    names, seen = {}, 0
    for cell in json.loads(Path('index.ipynb').read_text())['cells']:
        if cell['cell_type'] != 'code': continue
        tree = ast.parse(''.join(cell['source']))
        *most, last = tree.body
        exec(compile(ast.Module(most, []), 'index', 'exec'), names)
        code = compile(ast.Expression(last.value), 'index', 'eval') if isinstance(last, ast.Expr) else None
        shown = eval(code, names) if code else exec(compile(ast.Module([last], []), 'index', 'exec'), names)
        if type(shown).__name__ == 'Markdown':
            assert re.sub(r'\]\((\d\d_\w+\.ipynb)\)', r'](nbs/\1)', shown.data.strip()) in (ROOT / 'README.md').read_text()
            seen += 1
    assert seen == 6
