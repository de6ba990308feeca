"""Copies of the notebooks in which every code cell stands twice, for nbval: python tests/twice.py FOLDER."""

import copy
import sys
from pathlib import Path

import nbformat

(folder := Path(sys.argv[1])).mkdir(parents=True)
for path in Path(__file__).parents[1].glob("notebooks/*.ipynb"):
    notebook = nbformat.read(path, as_version=4)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            cells.append(copy.deepcopy(cell))
            cells[-1].id = f"{cell.id}-again"
    notebook.cells = cells
    nbformat.write(notebook, folder / path.name)
