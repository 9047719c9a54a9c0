"""The routes, a few to a file; each reads a request, asks the service, and answers."""
