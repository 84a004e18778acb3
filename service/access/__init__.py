"""Who may do what: keys, roles, sessions of browsers, limits on rates, and which pages may ask at all.

roles      what a route needs (`@needs("search")` below its router line) and what a client may (`Access`)
keys       the file of keys: hashes only, made and revoked by `threadmatch keys`
sessions   the cookie that a browser gets for a key
guard      the middleware in front of every route that brings these together
origins    which Host and Origin headers are let through
rates      how many requests a key may make
"""
