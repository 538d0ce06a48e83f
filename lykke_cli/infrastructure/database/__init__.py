"""What both databases share, and the table that is written; nothing of one of them alone."""
