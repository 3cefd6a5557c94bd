"""What the shop answers."""

# [views]
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from shop.models import Order
from tta_agent_coordination import AgentId, AgentMessage
from tta_agent_coordination.django import send_on_commit

shop, biller = AgentId("shop"), AgentId("biller")  # the inbox that all billers share


@csrf_exempt  # an API without cookies
@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """Store an order, and have it billed when it is stored for good."""
    with transaction.atomic():
        order = Order.objects.create(item=request.POST["item"])
        send_on_commit(shop, biller, AgentMessage(shop, biller, {"order": order.pk}))
    return JsonResponse({"order": order.pk}, status=202)


# [/views]


def show(_: HttpRequest, number: int) -> JsonResponse:
    """Answer with an order."""
    order = get_object_or_404(Order, pk=number)
    return JsonResponse({"item": order.item, "billed_by": order.billed_by})
