"""What the book needs and the library does not: figures, one module a chapter, the exercise checker, measured data.

The notebooks find this package because they run in the folder of the book.
"""
