"""What a peer is told by the environment: its database and its Redis."""

import os

from server.settings import Settings

DATABASE = os.environ.get("DATABASE_URL", "")
REDIS = os.environ.get("REDIS_URL", "")


def settings() -> Settings:
    """CloudArc's settings for the parts of it that a peer uses."""
    return Settings(database_url=DATABASE, redis_url=REDIS)
