"""Background work: a queue port, arq's worker with claims by lease, and the sweeper that finds what was lost.

In: jobs by name with ids as arguments. Out: each job runs at least once, usually within two milliseconds.
Never here: what a job means. Effects are fenced by their owners, since a job may run twice.
"""
