"""Kubernetes, once: connection, client, informers, waits. Knows objects and watches, nothing of Velero."""
