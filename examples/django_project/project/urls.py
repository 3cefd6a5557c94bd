"""What is at which address."""

from django.urls import include, path
from shop import views

urlpatterns = [
    path("orders", views.place),
    path("orders/<int:number>", views.show),
    path("health/", include("tta_agent_coordination.django.urls")),
]
