"""What a sender can ask for: priority, delay, time to live, many at once, publish."""

from tta_agent_coordination import (
    AgentId,
    AgentMessage,
    MessagePriority,
    MessageType,
    RedisMessageCoordinator,
    RoutingKey,
)
from tta_agent_coordination.embedded import EmbeddedServer

# [options]
SHOP, PACKER = AgentId("shop"), AgentId("packer")


def send(coordinator: RedisMessageCoordinator) -> None:
    """Send one message, and look at what became of it."""
    parcel = AgentMessage(
        SHOP,
        PACKER,
        {"order": 17},
        priority=MessagePriority.HIGH,  # before all that are NORMAL or LOW
        ttl=3600.0,  # of no use an hour later: a dead letter then
        message_id="order-17",  # sent again, it is not stored twice
    )
    result = coordinator.send_message(SHOP, PACKER, parcel)
    if not result.delivered:
        print("it was not stored:", result.error)  # the inbox is full
    print("again:", coordinator.send_message(SHOP, PACKER, parcel).duplicate)

    reminder = AgentMessage(SHOP, PACKER, {"remind": 17}, priority=MessagePriority.LOW)
    coordinator.send_message(SHOP, PACKER, reminder, delay=0.5)  # seconds until it can be received


# [/options]


# [many]
def send_more(coordinator: RedisMessageCoordinator) -> None:
    """Send many messages in few round trips, each to its own recipient."""
    parcels = [AgentMessage(SHOP, PACKER, {"order": number}) for number in (18, 19)]
    print([result.delivered for result in coordinator.send_many(SHOP, parcels)])


def work(coordinator: RedisMessageCoordinator) -> None:
    """Take what is there, until nothing has come for a second."""
    while (received := coordinator.receive(PACKER, visibility_timeout=30.0, wait=1.0)) is not None:
        print(received.message.payload)
        coordinator.ack(PACKER, received.token)


# [/many]


# [publish]
AUDITOR, MAILER = AgentId("auditor"), AgentId("mailer")


def tell_whoever_asked(coordinator: RedisMessageCoordinator) -> None:
    """Subscribe two agents, and publish to them."""
    coordinator.subscribe_to_messages(AUDITOR, [MessageType.EVENT])
    coordinator.subscribe_to_messages(MAILER, [MessageType.EVENT], topics=["orders.*"])

    shipped = AgentMessage(SHOP, SHOP, {"order": 17}, routing=RoutingKey("orders.shipped"))
    print(len(coordinator.publish(SHOP, shipped)), "of them asked for orders.shipped")
    counted = AgentMessage(SHOP, SHOP, {"left": 3}, routing=RoutingKey("stock.counted"))
    print(len(coordinator.publish(SHOP, counted)), "of them asked for stock.counted")


# [/publish]


if __name__ == "__main__":
    with EmbeddedServer() as server, RedisMessageCoordinator.from_url(server.url) as coordinator:
        send(coordinator)
        send_more(coordinator)
        work(coordinator)
        tell_whoever_asked(coordinator)
