"No circles, arrows that point down, files of one sitting, and the picture in the README is that of the code."
import ast
import json
import re
from graphlib import TopologicalSorter

import pytest
from architecture import ROOT, modules, picture


def notebook_number(module):
    "The number of the notebook that a module comes from; the widgets' first."
    first = next((ROOT / 'ltnb').glob(f'{module}.py'), ROOT / 'ltnb' / module / 'base.py')
    return int(re.search(r'nbs/(\d+)_', first.read_text())[1])


def test_imports_have_no_circle(): assert len([*TopologicalSorter(modules()).static_order()]) == len(modules())


def test_a_module_imports_only_what_stands_before_it():
    wrong = [(name, other) for name, others in modules().items() for other in others
             if notebook_number(other) >= notebook_number(name)]
    assert not wrong


def test_the_picture_in_the_readme_is_that_of_the_code(): assert picture() in (ROOT / 'README.md').read_text()


def test_a_circle_would_be_seen(tmp_path):
    (tmp_path / 'ltnb').mkdir()
    for name, other in ('a', 'b'), ('b', 'a'): (tmp_path / f'ltnb/{name}.py').write_text(f'from .{other} import x\n')
    with pytest.raises(ValueError): [*TopologicalSorter(modules(tmp_path)).static_order()]


@pytest.mark.parametrize('path', sorted((ROOT / 'ltnb').rglob('*.py')), ids=lambda p: p.name)
def test_files_are_of_a_length_that_is_read_in_one_sitting(path):
    if not path.name.startswith('_'): assert len(path.read_text().splitlines()) < 380


def test_the_ten_lines_of_the_readme_run(tmp_path, monkeypatch, capsys):
    from ltnb import diffusion, filtering, rebalancing, specs
    tables = (specs.LOSSES, specs.GENERATORS, specs.CLASSIFIERS, filtering.FILTERS, rebalancing.METHODS,
              diffusion.SAMPLERS)
    before = [(t, dict(t)) for t in tables]
    monkeypatch.chdir(tmp_path)
    block = next(b for b in re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.S) if 'LOSSES' in b)
    try: exec(block, {})
    finally:
        for table, rows in before:
            table.clear()
            table.update(rows)
    assert "'recall'" in capsys.readouterr().out


@pytest.mark.parametrize('path', sorted((ROOT / 'nbs').glob('*.ipynb')), ids=lambda p: p.stem)
def test_an_exported_cell_is_short_or_a_single_class_or_function(path):
    for cell in json.loads(path.read_text())['cells']:
        first, _, code = ''.join(cell['source']).partition('\n')
        if first == '#| export' and len(code.splitlines()) > 25: assert len(ast.parse(code).body) == 1, code[:80]
