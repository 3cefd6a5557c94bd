"""The shop: orders that an agent bills."""
