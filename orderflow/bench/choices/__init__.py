"""What shaped the program, measured: our way of something and other ways of the same, in turns.

Everything that is not our way lives here and nowhere in the product: it is written to be as fast as its kind can be,
and does the same work. Whatever ends with a book is held against the messages' book; what does not is compared, result
by result. A way that comes to something else ends the run.
"""
