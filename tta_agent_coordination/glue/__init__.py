"""What the glue for web frameworks has in common; it imports none of them.

`settings` reads what a framework was configured with, `coordination` makes the objects of an
application from it, `surrounded` runs agents within what the framework wants around its work,
and `serving` runs workers from the framework's command line.
"""
