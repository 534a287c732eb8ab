"""Benchmarks: each answers one question by a table, with a baseline in the same run (docs/decisions/0005-how-we-measure.md).

In: `python -m benchmarks [name...] [--quick]`. Out: a table in the terminal, a JSON file and a Markdown page in `results/`.
`model.py` says what a benchmark is, `catalogue.py` lists them, `running.py` runs them in interleaved rounds, `figures.py` does the
arithmetic, `pages.py` writes. A new page is one module with a `Benchmark` and one line in the catalogue. Nothing in backend imports this.
"""
