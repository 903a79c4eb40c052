"""Networks as data: a closed table of operations, rules of shapes, and what runs them."""
