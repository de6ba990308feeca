"""kdlib: FitNets in two stages, the helper package of the notebooks.

The modules in this folder are the method, in this order: models → regressors → objectives → data → profiles → study →
optimiser → training → arms. Beside them are the small `errors`, `streams` and `hardware`, and two more studies,
`tuning` and `editions`. `storage` keeps what a run leaves behind, `report` measures, draws and tables it.
"""
