"""Well-known architectures at full size, written from their papers: what a prediction is judged by.

`table.FAMILIES` lists them all.
"""
