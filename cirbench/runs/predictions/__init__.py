"""Rankings and features that were made elsewhere: read, checked against a protocol, scored; none of it needs torch."""
