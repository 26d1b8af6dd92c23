"README.md is the notebook nbs/index.ipynb as Markdown, its code left out and its links seen from the top folder."
import base64
import json
import re
from pathlib import Path


def readme(root):
    from nbconvert import MarkdownExporter
    text, _ = MarkdownExporter(exclude_input=True).from_filename(str(Path(root) / 'nbs/index.ipynb'))
    text = re.sub(r'\]\((\d\d_\w+\.ipynb|images/\w+\.png)\)', r'](nbs/\1)', text)
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


def pictures(root) -> dict: # nbs/images/NAME.png -> what a cell of a notebook that begins with '#| label: NAME' shows
    found = {}
    for path in sorted((Path(root) / 'nbs').glob('[0-9]*.ipynb')):
        for cell in json.loads(path.read_text())['cells']:
            label = re.match(r'#\| label: (\w+)\n', ''.join(cell['source']))
            shown = [o['data']['image/png'] for o in cell.get('outputs', []) if 'image/png' in o.get('data', {})]
            if label and shown: found[Path(root) / f'nbs/images/{label[1]}.png'] = base64.b64decode(shown[0])
    return found


if __name__ == '__main__':
    root = Path(__file__).parents[1]
    for path, png in pictures(root).items(): path.write_bytes(png)
    (root / 'README.md').write_text(readme(root), encoding='utf-8')
