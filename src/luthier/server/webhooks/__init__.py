"""Webhooks: an outbox, its sender, and the hosts that it may reach."""
