"""Music over HTTP: a durable queue, worker processes, and ACE-Step's REST API. No torch."""
