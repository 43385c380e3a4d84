"""What keeps a lake well: maintenance, retention, pins, verification."""
