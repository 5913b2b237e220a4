"""Service tests share the session's ``stack`` of ``tests/conftest.py``; what only they need stands here."""
