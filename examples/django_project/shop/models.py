"""What the shop keeps."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """An order, billed or not yet."""

    item: models.CharField[str, str] = models.CharField(max_length=100)
    billed_by: models.CharField[str, str] = models.CharField(max_length=100, default="")
