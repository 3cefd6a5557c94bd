"""Liveness and readiness: ``path("health/", include("tta_agent_coordination.django.urls"))``."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from tta_agent_coordination.django import coordination
from tta_agent_coordination.glue.coordination import LIVE

app_name = "tta_coordination"


@require_safe
@never_cache
def live(_: HttpRequest) -> JsonResponse:
    """Answer that this process can answer."""
    return JsonResponse(LIVE)


@require_safe
@never_cache
def ready(_: HttpRequest) -> JsonResponse:
    """Answer whether Redis answers; with status 503 when it does not."""
    readiness = coordination().readiness()
    return JsonResponse(readiness.document(), status=readiness.status)


urlpatterns = [path("live", live, name="live"), path("ready", ready, name="ready")]
