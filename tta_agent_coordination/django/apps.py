"""The app, for ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.core.signals import setting_changed

from tta_agent_coordination.django import SETTING, close
from tta_agent_coordination.django.checks import TAG, check_server, check_settings


class CoordinationConfig(AppConfig):
    """Registers the checks; connects to nothing."""

    name = "tta_agent_coordination.django"
    label = "tta_coordination"
    verbose_name = "Agent coordination"

    def ready(self) -> None:
        """Register the checks, and notice settings that tests change."""
        checks.register(check_settings, TAG)
        checks.register(check_server, TAG, deploy=True)
        setting_changed.connect(_forget, dispatch_uid=SETTING)


def _forget(*, setting: str, **_: object) -> None:
    if setting == SETTING:
        close()
