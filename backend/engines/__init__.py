"""Embedded PostgreSQL and Valkey: real servers out of wheels, for one machine. Only `backend/cli` and the tests come here.

In: a data folder. Out: running engines with their URLs. `process.py` keeps one server (lock, adopt, stop),
`valkey.py` and `postgres.py` know how each wants to be started, `account.py` lends PostgreSQL an account when we are root,
`folders.py` says where things lie, `leftovers.py` what runs although nobody keeps it.
No folder that we did not make ever gets another mode or owner.
"""

from backend.engines.folders import EngineRefused
from backend.engines.leftovers import LeftRunning, left_running
from backend.engines.postgres import erase_postgres, start_postgres
from backend.engines.process import Engine
from backend.engines.valkey import start_valkey

__all__ = ["Engine", "EngineRefused", "LeftRunning", "erase_postgres", "left_running", "start_postgres", "start_valkey"]
