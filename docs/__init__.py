"""The documentation: its pages, and the code that draws its pictures and makes its pages of results."""
