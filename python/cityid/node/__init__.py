"""The node: everything of cityid that waits, talks to other cities, or touches a disk."""
