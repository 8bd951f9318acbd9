"""What the paper says, and what comes out here: `edvit reproduce`.

paper.yaml  every number of the paper that can be read, and the figure of ours that stands by it
paper       reads it
asked       what a user asked for, and has
exact       figures that follow from configurations: MACs, sizes, plans, settings
files       latency of exported files
recipes     runs of the recipes, each in a process of its own; quick: their tiny forms
items       all of these in order of cost, each with the tables and figures that need it
compare     paper against ours: agrees, differs, or why that cannot be said
page        one page and one JSON
run         the whole of it, resumable
"""
