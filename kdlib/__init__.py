"""kdlib: FitNets in two stages, the helper package of the notebooks.

The modules in this folder are the method; each imports only from those before it, beside the small `errors`, `streams`
and `hardware`: models → regressors → objectives → data → study → optimiser → training → arms. `storage` keeps what a
run leaves behind, `report` measures, draws and tables it.
"""
