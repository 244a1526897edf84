"""One contract for every store: the same tests over memory and over a real server."""
