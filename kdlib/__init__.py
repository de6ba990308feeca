"""kdlib: FitNets in two stages, the helper package of the notebooks.

The modules in this folder are the method, and are read from left to right; each imports only from those before it:

    checks → note → settings → design → study → streams → hardware → storage → datasets → models → regressors
    → losses → objectives → optimisers → identity → progress → similarity → calibration → evaluation → training → arms

`study` says what is run, `training.fit` runs it. `storage` keeps and finds again what a run leaves behind, `report`
measures, compares, draws and describes it. `selection` chose the settings of the full profile. A notebook in
``notebooks/`` calls one named thing from here on each line.
"""
