"""The durable log of a session: numbered events that nobody sees before they are written."""
