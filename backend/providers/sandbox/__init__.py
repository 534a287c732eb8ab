"""A stand-in for the CA and the providers of all seven industries: a server of its own, over real HTTP, with invented people.

`app.py` is the way in. `ca.py`, `granting.py`, `asking.py` answer as the standard says; `steering.py` and `delivering.py` misbehave
on request; `people.py`, `figures.py` and one module per industry know who owns what. State is in memory and bounded.
Nothing in production imports this package.
"""
