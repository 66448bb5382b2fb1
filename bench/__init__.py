"""bench: what a session costs, measured side by side in one run. ``python -m bench`` prints the table.

    scenarios   the requests, the handlers and what each must answer
    drivers     how an ASGI or WSGI app is driven in-process, and its CPU time taken
    floors      the hand-written minimum of each kind
    ours        session_mw
    peers       what else is installed
    harness     proving, calibrating and the interleaved rounds
    budgets     what a cell may cost
    report      the table and the JSON
    garbage     what requests leave for the cycle collector

docs/performance.md tells how to read it.
"""
