"""The API's own description: OpenAPI 3.1 for requests, AsyncAPI 3.0 for the feed. Built from the types and catalogues that the API runs on.

In: the views of `events.py` and the registration's model, the codes of `errors.py`. Out: two JSON objects. Nothing is written to a file,
so nothing can be older than the code; a test compares the paths with the routes.
"""

from backend.documents.asyncapi import asyncapi
from backend.documents.openapi import openapi

__all__ = ["asyncapi", "openapi"]
