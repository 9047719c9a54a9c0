"""Tempo × key × task × length on one machine → what works, how fast, in how much memory."""
