"""The explorer: every order in which two requests of one browser can meet, and every place where one can die.

Everything session_mw decides is a flow, a generator that yields store operations. So nothing has to be provoked by
threads and luck: two flows are stepped, operation by operation, through every interleaving, and after each the store
and the browser's cookie jar are held against rules that are written down here, one function a rule.

    world.py       a browser, a store, the real layer and manager; requests stepped one operation at a time
    kinds.py       what a request can do: the handler, and its effect in plain words
    calls.py       what a SessionService can do meanwhile
    model.py       what api.md says must come of it: a model without versions, conflicts or retries
    invariants.py  the rules
    search.py      every schedule of a pair, every crash of a pair
    __main__.py    python -m tests.explorer: the table
"""
