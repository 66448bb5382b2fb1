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

Programs of their own, each on servers or files of its own: ``redis`` and ``sql`` (with ``sql_servers``, ``sql_bare``,
``sql_apps`` and ``sql_django``) hold a store beside its bare client, ``growth`` (with ``sqlite_lock``) a small store
beside a large one.

docs/performance.md tells how to read it.
"""
