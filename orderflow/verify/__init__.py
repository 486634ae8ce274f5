"""`orderflow verify`: whether a recording is whole, and whether its books are right."""
