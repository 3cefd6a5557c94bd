"""The settings of the project."""

import os
from pathlib import Path

SECRET_KEY = os.environ.get("SECRET_KEY", "only for this example")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", Path(__file__).parents[1] / "db.sqlite3"),
        "CONN_MAX_AGE": 60,
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}

# [settings]
INSTALLED_APPS = ["shop", "tta_agent_coordination.django"]
TTA_COORDINATION = {
    "URL": os.environ.get("TTA_COORDINATION_URL", "redis://127.0.0.1:6379/0"),
    "KEY_PREFIX": "shop",
    "CALL_TIMEOUT": 2.0,
}
# [/settings]
