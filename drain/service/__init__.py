"""The drain's one loop, and what is apart from it: its pace, what it copies and releases, its accounts, its end."""
