"""The demo: a small app that shows what sessions do, request by request. ``session-mw demo`` serves it.

accounts   who may sign in
app        the pages' handlers, where sessions are used; the place to read
forms      reading posted forms, and refusing those of other sites
pages      what the pages say
markup     escaping, the frame around every page
panel      what the session layer did, in words
watch      how that is seen
browsers   a user agent in three words
server     listening on loopback
"""
