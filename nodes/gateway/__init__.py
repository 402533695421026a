"""The gateway: Caddy in front of all apps, a syncer that gives it the routes, and a reader of its access log.

Nothing here touches the database: a gateway machine needs Redis and Caddy only.
"""
