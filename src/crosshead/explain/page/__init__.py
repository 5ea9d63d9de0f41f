"""The page that shows the inside of a net: what it holds, and how it is put together."""
