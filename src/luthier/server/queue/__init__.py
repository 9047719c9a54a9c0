"""The durable queue: tasks in SQLite, leases, order, retention."""
