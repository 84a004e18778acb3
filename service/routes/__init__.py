"""The routes, one module a subject; `service.app` puts them together."""
