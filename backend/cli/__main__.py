"""`python -m backend.cli`: how `moa up` starts its children, with the very Python it runs on itself."""

from backend.cli import main

main()
