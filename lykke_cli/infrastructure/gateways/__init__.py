"""What implements a gateway to Pub/Sub. What it needs of Redis itself is in `redis`."""
